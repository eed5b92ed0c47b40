"""`/wait` with every condition on a container in every state: what it answers at once, and what after each event."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.conftest import Kistd

CONDITIONS = ("", "not-running", "next-exit", "removed")  # another one is refused since 23, and 20.10 takes it


def _request(engine: Kistd, method: str, path: str) -> None:
    """A start that starts something ends when that is ready for a signal."""
    logs = f"/v1.41/containers/{path.partition('/')[0]}/logs?stdout=1"
    before = _told(engine, logs) if path.endswith("/start") else 0
    status, _ = engine.request(method, f"/v1.41/containers/{path}")
    deadline = time.monotonic() + 5
    while path.endswith("/start") and status == 204 and _told(engine, logs) == before and time.monotonic() < deadline:
        time.sleep(0.01)


def _told(engine: Kistd, logs: str) -> int:
    status, raw = engine.request("GET", logs)
    return raw.count(b"ready") if status == 200 else 0


def _created(engine: Kistd, name: str, policy: str = "no") -> None:
    body = {
        "Image": "busybox",
        "Cmd": ["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"],
        "HostConfig": {"NetworkMode": "none", "RestartPolicy": {"Name": policy}},
    }
    status, answer = engine.request("POST", f"/v1.41/containers/create?name={name}", body)
    assert status == 201, answer


def _running(engine: Kistd, name: str) -> None:
    _created(engine, name)
    _request(engine, "POST", f"{name}/start")


def _kept_running(engine: Kistd, name: str) -> None:
    _created(engine, name, "always")
    _request(engine, "POST", f"{name}/start")


def _paused(engine: Kistd, name: str) -> None:
    _running(engine, name)
    _request(engine, "POST", f"{name}/pause")


def _exited(engine: Kistd, name: str) -> None:
    _running(engine, name)
    _request(engine, "POST", f"{name}/stop")


def _missing(engine: Kistd, name: str) -> None:
    """Nothing of that name."""


STATES: dict[str, Callable[[Kistd, str], None]] = {
    "created": _created,
    "running": _running,
    "kept": _kept_running,
    "paused": _paused,
    "exited": _exited,
    "missing": _missing,
}
EVENTS: dict[str, list[tuple[str, str]]] = {
    "removed": [("DELETE", "?force=1")],
    "started": [("POST", "/start")],
    "stopped": [("POST", "/stop?t=2")],
    "killed": [("POST", "/kill?signal=KILL")],
    "restarted": [("POST", "/restart?t=2")],
    "started and stopped": [("POST", "/start"), ("POST", "/stop?t=2")],
}


class _Waiting(threading.Thread):
    def __init__(self, engine: Kistd, name: str, condition: str) -> None:
        super().__init__(daemon=True)
        query = f"?condition={condition}" if condition else ""
        self._engine, self._path = engine, f"/v1.41/containers/{name}/wait{query}"
        self.answer: Any = "waits"

    def run(self) -> None:
        self.answer = self._engine.request("POST", self._path)

    def told(self, seconds: float) -> Any:
        self.join(seconds)
        return self.answer


def _answers(engine: Kistd, state: str) -> dict[str, Any]:
    cases = [(event, condition) for event in EVENTS for condition in CONDITIONS]
    names = {case: f"{state}{number}" for number, case in enumerate(cases)}
    waiting: dict[tuple[str, str], _Waiting] = {}
    for case, name in names.items():
        STATES[state](engine, name)
        waiting[case] = _Waiting(engine, name, case[1])
        waiting[case].start()
    time.sleep(1)
    found = {
        f"{condition or 'no condition'}, at once": waiting["removed", condition].answer for condition in CONDITIONS
    }
    for (event, _), name in names.items():
        for method, path in EVENTS[event]:
            _request(engine, method, f"{name}{path}")
    time.sleep(1)
    for (event, condition), one in waiting.items():
        found[f"{condition or 'no condition'}, {event}"] = one.told(0.1)
    for case, name in names.items():
        _request(engine, "DELETE", f"{name}?force=1")
        waiting[case].told(5)
    return {case: _plain(answer, list(names.values())) for case, answer in found.items()}


def _plain(answer: Any, names: list[str]) -> str:
    """Without what only dockerd before 23 tells: that there was no error."""
    text = repr(answer).replace("'Error': None, ", "")
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "NAME")
    return text


@pytest.mark.parametrize("state", STATES)
def test_what_a_wait_is_told(kist: Kistd, dockerd: Kistd, state: str) -> None:
    ours, theirs = _answers(kist, state), _answers(dockerd, state)
    different = [
        f"{case}:\n  kistd:   {ours[case]}\n  dockerd: {theirs[case]}" for case in ours if ours[case] != theirs[case]
    ]
    assert not different, "\n".join(different)
