"""Numbers in the text of requests: digits of other scripts, and more digits than int() takes, are none."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kist.api.containers import ContainerRoutes
from kist.api.selection import select
from kist.container.logging import check_log_config
from kist.container.signals import parse_signal
from kist.container.validate import parse_cpuset
from kist.http.server import Request
from kist.model.config import ContainerConfig, HostConfig, LogConfig
from kist.model.errors import InvalidParameter
from kist.model.number import is_number
from kist.network.ports import wanted_ports
from kist.runtime.spec import parse_device_rule

NONE = ["²", "1²", "٣", "9" * 5000]


@pytest.mark.parametrize("text", ["0", "007", "9" * 18])
def test_numbers(text: str) -> None:
    assert is_number(text)
    assert str(int(text)).rjust(len(text), "0") == text


@pytest.mark.parametrize("text", [*NONE, "", "-1", "+1", " 1", "1_0", "1.0"])
def test_what_is_none(text: str) -> None:
    assert not is_number(text)


@pytest.mark.parametrize("text", NONE)
def test_requests_with_what_is_none_are_refused(text: str) -> None:
    for rule in (f"c {text}:3 rwm", f"c 1:{text} rwm"):
        with pytest.raises(InvalidParameter, match="invalid device cgroup rule format"):
            parse_device_rule(rule)
    for value in (text, f"-{text}", "--1"):
        with pytest.raises(InvalidParameter, match="invalid filter 'exited="):
            select([], {"exited": [value]}, everything=True, find=cast(Any, None), descendants=cast(Any, None))
    with pytest.raises(InvalidParameter, match="max-file"):
        check_log_config(LogConfig("json-file", {"max-file": text}))
    with pytest.raises(InvalidParameter, match="invalid signal"):
        parse_signal(f"RTMIN+{text}")
    with pytest.raises(InvalidParameter, match="invalid port specification"):
        wanted_ports(ContainerConfig(exposed_ports={f"{text}/tcp": {}}), HostConfig(publish_all_ports=True), "")
    assert parse_cpuset(text) is parse_cpuset(f"0-{text}") is None


@pytest.mark.parametrize(("text", "wanted"), [*((text, None) for text in NONE), ("all", None), ("", None), ("12", 12)])
def test_the_last_lines_of_a_log(text: str, wanted: int | None) -> None:
    """As with dockerd: what is no number of lines asks for all."""
    asked: list[Any] = []

    async def logs(name: str, options: dict[str, Any], follow: bool) -> Any:
        asked.append(options["tail"])
        for piece in list[bytes]():
            yield piece

    async def start_stream(**_: object) -> None: ...

    containers = SimpleNamespace(get=lambda name: SimpleNamespace(id="x", config=SimpleNamespace(tty=False)))
    routes = ContainerRoutes(
        cast(Any, containers),
        cast(Any, None),
        cast(Any, None),
        logs,
        lambda kind, size: None,
        cgroup2=True,
        default_network="bridge",
        experimental=False,
    )
    request = Request(cast(Any, None), "GET", "/containers/x/logs", {}, False)
    request.parameters, request.query = {"name": "x"}, {"stdout": "1", "tail": text}
    request.version = "1.41"
    request.start_stream = start_stream  # type: ignore[method-assign,assignment]
    asyncio.run(cast(Any, routes.logs(request)))
    assert asked == [wanted]
