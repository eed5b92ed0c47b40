"""config.json as the plan takes it, without a kernel: what is refused, what is completed, where the stations are."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.kernel.cgroup import Layout
from kist.lowlevel import bundle, hooks, inspecting, resources, steps, templates
from kist.lowlevel.errors import RuntimeFailure
from kist.model.mount import Mount
from kist.monitor import operations as do
from kist.runtime import oci, plan
from kist.runtime.launch import LaunchRequest, LogSetup

V2 = Layout({}, "/sys/fs/cgroup")


def config(**changes: Any) -> dict[str, Any]:
    return {**oci.to_json(templates.template()), **changes}


def test_the_template_is_carried_out() -> None:
    _, spec = bundle.decode(json.dumps(config()).encode())
    bundle.check(spec)


NAMES = st.sampled_from(["process", "linux", "mounts", "root", "args", "namespaces", "type", "path", "x"])
PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


@given(JSON)
def test_any_json_is_read_or_refused(value: Any) -> None:
    data = {**config(), **value} if isinstance(value, dict) else value
    with contextlib.suppress(RuntimeFailure):
        _, spec = bundle.decode(json.dumps(data).encode())
        bundle.check(spec)


def test_unknown_properties_are_passed_over() -> None:
    bundle.decode(json.dumps(config(futureProperty={"a": 1})).encode())


def test_harmless_values_of_what_is_refused() -> None:
    raw = config()
    raw["process"] |= {"apparmorProfile": "", "selinuxLabel": ""}
    raw["linux"] |= {"intelRdt": {}, "mountLabel": ""}
    bundle.refuse(raw)


def test_ambient_capabilities_are_those_that_can_be() -> None:
    sets = oci.Capabilities(
        permitted=("CAP_KILL", "CAP_CHOWN"), inheritable=("CAP_KILL",), ambient=("CAP_KILL", "CAP_CHOWN")
    )
    found = bundle.possible(sets)
    assert found is not None
    assert found.ambient == ("CAP_KILL",)


def request() -> LaunchRequest:
    spec = templates.template()
    spec = msgspec.structs.replace(spec, mounts=(*spec.mounts, oci.Mount("/t", "tmpfs", "tmpfs")))
    return LaunchRequest(
        "c", spec, "", (), (Mount("bind", "/rootfs", ("rbind",)),), (), LogSetup(), "/run", "/rootfs", "g"
    )


def test_stations_are_where_they_belong() -> None:
    call = hooks.Call("createContainer", 0, "/h", [], [], 0)
    stations = steps.Stations(steps.UseIds(7, 8, [9]), True, [call], [call], b"{}", "/b", frozenset({"/t"}))
    found = steps.arrange([*plan.init_operations(request(), V2)], stations)
    kinds = [type(operation).__name__ for operation in found]
    assert kinds[0] == "SealImports"
    at = kinds.index("PivotRoot")
    assert kinds[at - 2 : at] == ["AskForHooks", "RunHooks"]
    assert kinds[-3:] == ["AwaitStart", "RunHooks", "Execute"]
    assert "ParentDeathSignal" not in kinds
    assert "ResolveUser" not in kinds
    assert kinds.count("CoverWithCopy") == 1
    assert all(operation.describe() for operation in found)


def test_hooks_without_any_cost_nothing() -> None:
    stations = steps.Stations(steps.UseIds(0, 0, []), False, [], [], b"{}", "/b", frozenset())
    kinds = {type(operation) for operation in steps.arrange([*plan.init_operations(request(), V2)], stations)}
    assert not kinds & {steps.AskForHooks, steps.RunHooks, steps.CoverWithCopy}
    assert do.Execute in kinds


@pytest.mark.parametrize(("text", "number"), [("9", 9), ("KILL", 9), ("sigterm", 15), ("SIGRTMIN+3", 37), ("usr1", 10)])
def test_signals(text: str, number: int) -> None:
    assert inspecting.parse_signal(text) == number


@pytest.mark.parametrize("text", ["0", "65", "nonsense", "SIG", "", "__CLASS__", "SIG_DFL", "KILL+x"])
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(RuntimeFailure, match="unknown signal"):
        inspecting.parse_signal(text)


@pytest.mark.parametrize(("text", "number"), [("5s", 5.0), ("1m30s", 90.0), ("100ms", 0.1), ("1.5h", 5400.0)])
def test_durations(text: str, number: float) -> None:
    assert resources.seconds(text) == number


@pytest.mark.parametrize("text", ["", "5", "0s", "s", "-1s", "5 s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(RuntimeFailure):
        resources.seconds(text)
