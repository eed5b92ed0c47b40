"""Commands about a container that is there: state, kill, delete, list, ps, pause, resume."""

from __future__ import annotations

import json
import os
import pwd
import select
import signal

from kist.kernel import cgroup, pidfd
from kist.lowlevel import removing, state
from kist.lowlevel.errors import Log, RuntimeFailure
from kist.lowlevel.state import Container

_DIE_SECONDS = 10
Options = dict[str, object]


def _shown(container: Container) -> dict[str, object]:
    """As runc shows a container (runtime.md, State, and more)."""
    kept, status = container.kept, container.status()
    return {
        "ociVersion": kept.oci_version,
        "id": kept.id,
        "pid": 0 if status == "stopped" else kept.pid,
        "status": status,
        "bundle": kept.bundle,
        "rootfs": kept.rootfs,
        "created": kept.created,
        **({"annotations": kept.annotations} if kept.annotations else {}),
        "owner": _owner(container.directory),
    }


def _owner(directory: str) -> str:
    try:
        uid = os.stat(directory).st_uid
        return pwd.getpwuid(uid).pw_name
    except (OSError, KeyError):
        return ""


def state_of(root: str, words: list[str]) -> dict[str, object]:
    return {**_shown(state.load(root, words[0])), "owner": ""}


def show(root: str, words: list[str], options: Options, log: Log) -> int:
    """`state`."""
    print(json.dumps(state_of(root, words), indent=2))
    return 0


def kill(root: str, words: list[str], options: Options, log: Log) -> int:
    """Raises RuntimeFailure for an unknown signal or a container that does not run."""
    container = state.load(root, words[0])
    number = parse_signal(words[1] if len(words) > 1 else "SIGTERM")
    if container.status() == "stopped" and not options["all"]:
        raise RuntimeFailure("container not running")
    if options["all"]:
        _signal_all(container, number)
        return 0
    descriptor = container.open_init()
    try:
        pidfd.pidfd_send_signal(descriptor, number)
    except ProcessLookupError as error:
        raise RuntimeFailure("container not running") from error
    finally:
        os.close(descriptor)
    if number == signal.SIGKILL and cgroup.frozen(container.layout, container.kept.cgroup):
        cgroup.thaw(container.layout, container.kept.cgroup)  # what v1 has stopped does not die before it goes on
    return 0


def _signal_all(container: Container, number: int) -> None:
    if number == signal.SIGKILL:
        cgroup.kill(container.layout, container.kept.cgroup)
        return
    for pid in cgroup.pids(container.layout, container.kept.cgroup):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def parse_signal(text: str) -> int:
    """`9`, `KILL`, `sigkill`, `SIGRTMIN+3`. Raises RuntimeFailure with runc's words."""
    if text.isascii() and text.isdecimal():
        number = int(text)
    else:
        name, plus, more = text.upper().partition("+")
        name = name if name.startswith("SIG") else f"SIG{name}"
        number = int(getattr(signal, name, 0)) if name[3:].isalnum() else 0
        if plus:
            number = number + int(more) if number and more.isascii() and more.isdecimal() else 0
    if not 0 < number <= 64:
        raise RuntimeFailure(f'unknown signal "{text}"')
    return number


def delete(root: str, words: list[str], options: Options, log: Log) -> int:
    """A container that was never started is killed; of one that runs it takes `--force`. Raises RuntimeFailure."""
    name, force = words[0], bool(options["force"])
    try:
        with state.locked(root, name):
            _delete(state.load(root, name), force, log)
    except RuntimeFailure as failure:
        if not (force and failure.message == "container does not exist"):
            raise
    return 0


def _delete(container: Container, force: bool, log: Log) -> None:
    status = container.status()
    if status not in ("stopped", "created") and not force:
        raise RuntimeFailure(f"cannot delete container {container.kept.id} that is not stopped: {status}")
    if status != "stopped":
        descriptor = container.open_init()
        try:
            pidfd.pidfd_send_signal(descriptor, signal.SIGKILL)
            cgroup.kill(container.layout, container.kept.cgroup)
            if not select.select([descriptor], [], [], _DIE_SECONDS)[0]:
                raise RuntimeFailure("container init still running")
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)
    removing.remove(container, log)


def listing(root: str, words: list[str], options: Options, log: Log) -> int:
    found = [_shown(one) for one in state.all_of(root)]
    if options["quiet"]:
        for one in found:
            print(one["id"])
    elif options["format"] == "json":
        print(json.dumps(found or None))
    elif options["format"] == "table":
        columns = ("id", "pid", "status", "bundle", "created", "owner")
        _print_table([[name.upper() for name in columns], *([str(one[name]) for name in columns] for one in found)])
    else:
        raise RuntimeFailure(f"invalid format option: {options['format']}")
    return 0


def _print_table(rows: list[list[str]]) -> None:
    """Columns as Go's tabwriter sets them: three spaces between, twelve at least."""
    widths = [max(12, *(len(row[at]) + 3 for row in rows)) for at in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        print("".join([*cells, row[-1]]))


def processes(root: str, words: list[str], options: Options, log: Log) -> int:
    """`ps`. Raises RuntimeFailure for ps options this runtime does not know."""
    container = state.load(root, words[0])
    if container.status() == "stopped":
        raise RuntimeFailure("container not running")
    pids = cgroup.pids(container.layout, container.kept.cgroup)
    if options["format"] == "json":
        print(json.dumps(pids))
        return 0
    if options["format"] != "table":
        raise RuntimeFailure("invalid format option")
    from kist.model.errors import InvalidParameter
    from kist.runtime import processes as table

    try:
        titles, rows = table.table(pids, " ".join(words[1:]) or "-ef")
    except InvalidParameter as error:
        raise RuntimeFailure(error.message) from error
    widths = [max(len(row[at]) for row in (titles, *rows)) for at in range(len(titles))]
    for row in (titles, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        print(" ".join([*cells, row[-1]]))
    return 0


def pause(root: str, words: list[str], options: Options, log: Log) -> int:
    container = state.load(root, words[0])
    status = container.status()
    if status not in ("running", "created"):
        raise RuntimeFailure(f"container not running or created: {status}")
    try:
        cgroup.freeze(container.layout, container.kept.cgroup)
    except OSError:
        cgroup.thaw(container.layout, container.kept.cgroup)
        raise
    return 0


def resume(root: str, words: list[str], options: Options, log: Log) -> int:
    container = state.load(root, words[0])
    if container.status() != "paused":
        raise RuntimeFailure("container not paused")
    cgroup.thaw(container.layout, container.kept.cgroup)
    return 0
