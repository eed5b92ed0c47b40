"""`kist stats`: a table of what containers use, once or painted anew twice a second."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from kist.cli import tables
from kist.cli.context import Context
from kist.cli.parse import Parsed
from kist.client.http import ApiError, Unreachable
from kist.model.errors import KistError

_TITLES = {"Container": "CONTAINER", "Name": "NAME", "ID": "CONTAINER ID", "CPUPerc": "CPU %",
           "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O",
           "PIDs": "PIDS"}  # fmt: skip
_DEFAULT = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"
_LISTING = tables.Listing("*container.statsContext", _TITLES, _DEFAULT)
_STALE = 2.0  # seconds without a sample after which the last one is not shown any more
_PAINT = 0.5
_HOME, _ERASE_LINE, _ERASE_BELOW = "\033[H", "\033[K", "\033[J"  # console_codes(4)


class _Watched:
    """One container: its last sample and what went wrong."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sample: dict[str, Any] | None = None
        self.error: str = ""
        self.taken = 0.0
        self.first = threading.Event()  # set when there is a sample, or none will come

    def collect(self, context: Context, stream: bool) -> None:
        client = context.another()
        try:
            answer = client.open("GET", f"/containers/{self.name}/stats", {"stream": stream or "0"})
            try:
                for line in answer.lines():
                    self.sample, self.taken = json.loads(line), time.monotonic()
                    self.first.set()
            finally:
                answer.close()
        except ApiError as error:
            self.error = f"Error response from daemon: {error.message}"
        except (Unreachable, OSError) as error:
            self.error = str(error)
        finally:
            self.first.set()
            client.close()

    @property
    def fresh(self) -> bool:
        return self.sample is not None and not self.error and time.monotonic() - self.taken < _STALE


class _Board:
    """The containers that are shown, in the order they came."""

    def __init__(self, context: Context, stream: bool) -> None:
        self._context, self._stream = context, stream
        self.watched: dict[str, _Watched] = {}
        self.failure = ""  # why the events ended

    def add(self, name: str) -> None:
        if name not in self.watched:
            one = self.watched[name] = _Watched(name)
            threading.Thread(target=one.collect, args=(self._context, self._stream), daemon=True).start()

    def wait(self) -> None:
        """Until each has its first sample, or is known to have none."""
        deadline = time.monotonic() + 2 * _STALE
        for one in list(self.watched.values()):
            one.first.wait(max(0.0, deadline - time.monotonic()))

    def follow_events(self, everything: bool, subscribed: threading.Event) -> None:
        """Takes containers in that start (or are made), and out that end, for as long as the daemon tells."""
        client = self._context.another()
        try:
            answer = client.open("GET", "/events", {"filters": '{"type":["container"]}'})
            subscribed.set()
            for line in answer.lines():
                event = json.loads(line)
                short = event["Actor"]["ID"][:12]
                if event["Action"] == "start" or (everything and event["Action"] == "create"):
                    self.add(short)
                elif event["Action"] == ("destroy" if everything else "die"):
                    self.watched.pop(short, None)
        except (KistError, OSError) as error:
            self.failure = str(error)
        finally:
            subscribed.set()
            client.close()


def stats(context: Context, options: Parsed) -> int:
    board = _Board(context, not options.no_stream)
    template = options.format or context.choice.format("statsFormat")
    if options.arguments:
        for name in options.arguments:
            board.add(name)
    else:
        _watch_all(context, board, options)
    board.wait()
    errors = [one.error for one in board.watched.values() if one.error]
    if options.arguments and errors:
        raise KistError("\n".join(errors))
    if options.no_stream:
        sys.stdout.write(_text(board, template, options.no_trunc))
        return 0
    while not board.failure:
        time.sleep(_PAINT)
        _paint(_text(board, template, options.no_trunc))
        if options.arguments and not board.watched:
            return 0
    return 0


def _watch_all(context: Context, board: _Board, options: Parsed) -> None:
    if not options.no_stream:  # before the list, so that none is missed between the two
        subscribed = threading.Event()
        threading.Thread(target=board.follow_events, args=(options.all, subscribed), daemon=True).start()
        subscribed.wait()
    for one in context.client.call("GET", "/containers/json", {"all": options.all}):
        board.add(one["Id"][:12])


def _paint(text: str) -> None:
    """Over the last picture, in one write, so that nothing flickers."""
    lines = "".join(f"{line} {_ERASE_LINE}\n" for line in text.split("\n"))
    sys.stdout.write(f"{_HOME}{lines}{_ERASE_BELOW}")
    sys.stdout.flush()


def _text(board: _Board, template: str, whole: bool) -> str:
    rows = [_row(one, whole) for one in list(board.watched.values())]
    return tables.show(rows, template, _LISTING)


def _row(one: _Watched, whole: bool) -> dict[str, Any]:
    sample = one.sample or {}
    made = {"Container": one.name, "Name": sample.get("name", "")[1:] or "--",
            "ID": sample.get("id", "") if whole else sample.get("id", "")[:12]}  # fmt: skip
    if not one.fresh:
        return {**made, "CPUPerc": "--", "MemUsage": "-- / --", "MemPerc": "--", "NetIO": "--", "BlockIO": "--",
                "PIDs": "--"}  # fmt: skip
    used, limit = memory_used(sample["memory_stats"]), sample["memory_stats"].get("limit", 0)
    networks = (sample.get("networks") or {}).values()
    return {
        **made,
        "CPUPerc": f"{cpu_percent(sample):.2f}%",
        "MemUsage": f"{tables.binary_size(used)} / {tables.binary_size(limit)}",
        "MemPerc": f"{100 * used / limit if limit else 0:.2f}%",
        "NetIO": _both(sum(net["rx_bytes"] for net in networks), sum(net["tx_bytes"] for net in networks)),
        "BlockIO": _both(*(_blocks(sample, letter) for letter in "rw")),
        "PIDs": str(sample["pids_stats"].get("current", 0)),
    }


def _both(first: int, second: int) -> str:
    return f"{tables.human_size(first)} / {tables.human_size(second)}"


def _blocks(sample: dict[str, Any], letter: str) -> int:
    entries = sample["blkio_stats"]["io_service_bytes_recursive"] or ()
    return sum(one["value"] for one in entries if one["op"][:1].lower() == letter)


def cpu_percent(sample: dict[str, Any]) -> float:
    """Of one processor: 200 is two of them all the time since the sample before."""
    now, before = sample["cpu_stats"], sample["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    system = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    processors = now.get("online_cpus") or len(now["cpu_usage"].get("percpu_usage") or ())
    return 100.0 * used / system * processors if used > 0 and system > 0 else 0.0


def memory_used(memory: dict[str, Any]) -> int:
    """Bytes without what the page cache could give back: `total_inactive_file` of v1, `inactive_file` of v2."""
    usage, details = memory.get("usage", 0), memory.get("stats") or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return int(usage - cache if cache < usage else usage)
