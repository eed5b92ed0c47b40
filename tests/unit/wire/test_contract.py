"""The typed models and the contract file say the same: every field, its type, whether a number or text may be null.

What differs is listed with its reason; a difference that is gone is to be taken off the list. Null in the place of an
object or an array is not compared: the contract allows it for Go's pointers that dockerd always sets, and keeps quiet
about slices that it does send as null. There the models are exact, and every answer of every test is held against them.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import pytest
from tests import contract, wire_check

from kist.api.execs import _StartBody
from kist.api.volumes import _CreateBody
from kist.model import config
from kist.wire import answer

pytestmark = pytest.mark.skipif(contract.load() is None, reason=contract.MISSING)

# (definition or request of the contract).(field) -> why the model is not as the contract says
ANSWERS = {
    **contract.NULLS,
    # dockerd sends more than the contract says
    "EventMessage.status": "the first form of Action, which older clients read",
    "EventMessage.id": "the first form of Actor.ID",
    "EventMessage.from": "the image, as events had it first",
    "ProgressDetail.start": "sent while layers are pushed and pulled (jsonmessage)",
    "ProgressDetail.hidecounts": "sent for what has no size (jsonmessage)",
    "ProgressDetail.units": "sent for what is not counted in bytes (jsonmessage)",
    "BuildInfo.aux": "what it holds depends on the message: the contract knows the image's id only",
    # dockerd sends it always
    "ImageInspect.Metadata.LastTagTime": "the zero time, not null, for an image that has no tag",
    "ContainerInspectResponse.Created": "there is no container without it",
    "ContainerInspectResponse.LogPath": 'sent as "" where there is no file',
    "ContainerMemoryStats.stats[]": "a map of numbers in dockerd",
    "HostConfig.LogConfig.Type": "the contract lists drivers, plugins bring more",
    "Mount.BindOptions.Kist": "what only this engine has of binds",
    # swarm mode is not this engine's
    "Volume.ClusterVolume": "of swarm mode",
    "SwarmInfo.Cluster": "of swarm mode",
}
REQUESTS = {
    "Resources.KernelMemory": "clients before 1.42 send it",
    "Mount.BindOptions.Kist": "what only this engine has of binds",
    "VolumeCreateOptions.ClusterVolumeSpec": "of swarm mode",
}
# Fields that answers have beside the contract's own, where the contract has a smaller definition for the same messages.
PART_OF = ("CreateImageInfo", "PushImageInfo")

KINDS = {"integer": int, "string": str, "boolean": bool}
Fault = tuple[str, str]


class Comparison:
    """Walks a model and a schema side by side. `exact`: answers, whose fields say if they may be missing or null."""

    def __init__(self, *, exact: bool) -> None:
        self.exact = exact
        self.faults: dict[str, str] = {}
        self._seen: set[tuple[int, str]] = set()

    def field(self, hint: Any, schema: dict[str, Any], where: str, home: str) -> None:
        """`where` names the field; `home` the definition or request that nested objects without a name belong to."""
        schema, home, nullable = _resolve(schema, home)
        core, may_be_null, may_miss = _split(hint)
        if get_origin(core) is Literal:
            self._literal(core, schema, where)
            core = type(get_args(core)[0])
        elif self.exact and core in (int, str) and "enum" in schema:
            self._fault(where, f"one of {schema['enum']}, in the model any {core}")
        if self.exact:
            self._null(where, schema, nullable, may_be_null, may_miss)
        self._kind(core, schema, where, home)

    def _null(self, where: str, schema: dict[str, Any], nullable: bool, may_be_null: bool, may_miss: bool) -> None:
        if schema.get("type") not in KINDS:
            return
        if nullable and not (may_be_null or may_miss):
            self._fault(where, "may be null, in the model never")
        if may_be_null and not nullable:
            self._fault(where, "is never null, in the model it may be")

    def _literal(self, core: Any, schema: dict[str, Any], where: str) -> None:
        if sorted(get_args(core)) != sorted(schema.get("enum", ())):
            self._fault(where, f"one of {schema.get('enum')}, in the model one of {get_args(core)}")

    def _kind(self, core: Any, schema: dict[str, Any], where: str, home: str) -> None:
        kind = schema.get("type", "object" if {"properties", "allOf", "additionalProperties"} & set(schema) else "")
        origin, inner = get_origin(core), get_args(core)
        if kind in KINDS:
            if core is not KINDS[kind]:
                self._fault(where, f"{kind}, in the model {core}")
        elif kind == "array":
            if origin not in (list, tuple):
                self._fault(where, f"array, in the model {core}")
            for one in inner:
                self.field(one, schema["items"], where, home)
        elif kind == "object":
            self._object(core, schema, where, home)
        else:
            self._fault(where, f"no type this test knows: {schema}")

    def _object(self, core: Any, schema: dict[str, Any], where: str, home: str) -> None:
        if isinstance(core, type) and issubclass(core, msgspec.Struct):
            self.struct(core, schema, home)
        elif get_origin(core) is not dict or get_args(core)[0] is not str or "properties" in schema:
            self._fault(where, f"object, in the model {core}")
        else:
            value = get_args(core)[1]
            values = schema.get("additionalProperties")
            if value is not object and isinstance(values, dict):
                self.field(value, values, f"{where}[]", home)

    def struct(self, model: type[msgspec.Struct], schema: dict[str, Any], home: str, *, part: bool = False) -> None:
        if (id(model), home) in self._seen:
            return
        self._seen.add((id(model), home))
        told = {name: (at, one) for at, name, one in _properties(schema, home)}
        hints = typing.get_type_hints(model, include_extras=True)
        fields = {field.encode_name: field for field in msgspec.structs.fields(model)}
        for name, (at, one) in told.items():
            if name not in fields:
                self._fault(f"{at}.{name}", "not in the model")
            else:
                self.field(hints[fields[name].name], one, f"{at}.{name}", f"{at}.{name}")
        for name in schema.get("required", ()):
            if self.exact and name in fields and not fields[name].required:
                self._fault(f"{home}.{name}", "always there, in the model it may be missing")
        marks = wire_check.marks(model)
        for name, field in fields.items():
            if name not in told and not part and "before" not in marks.get(field.name, {}):
                last = next((at for at, _ in told.values()), home)
                self._fault(f"{last}.{name}", "not in the contract")

    def _fault(self, where: str, text: str) -> None:
        self.faults[where] = text


def _resolve(schema: dict[str, Any], home: str) -> tuple[dict[str, Any], str, bool]:
    """Through references: (schema, name, whether any of them may be null)."""
    nullable = False
    while True:
        nullable = nullable or bool(schema.get("x-nullable")) or bool(schema.get("x-omitempty"))
        if "$ref" in schema:
            home = schema["$ref"].rpartition("/")[2]
            schema = _document()["definitions"][home]
        elif len(schema.get("allOf", ())) == 1 and "properties" not in schema:
            schema = schema["allOf"][0]
        else:
            return schema, home, nullable


def _properties(schema: dict[str, Any], home: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(where it is written down, name, schema) of each, those of `allOf` included."""
    for part in schema.get("allOf", ()):
        found, at, _ = _resolve(part, home)
        yield from _properties(found, at)
    for name, one in schema.get("properties", {}).items():
        yield home, name, one


def _split(hint: Any) -> tuple[Any, bool, bool]:
    """A field's type without null and missing: (type, may be null, may be missing)."""
    hint = _bare(hint)
    if not (isinstance(hint, types.UnionType) or get_origin(hint) is typing.Union):
        return hint, False, False
    members = get_args(hint)
    rest = [one for one in members if one not in (type(None), msgspec.UnsetType)]
    assert len(rest) == 1, f"a union that this test does not know: {hint}"
    return _bare(rest[0]), type(None) in members, msgspec.UnsetType in members


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _document() -> dict[str, Any]:
    document = contract.load()
    assert document is not None
    return document


def _reviewed(found: dict[str, str], expected: dict[str, str]) -> None:
    new = [f"{where}: {text}" for where, text in found.items() if where not in expected]
    assert not new, "\n".join(new)
    gone = [where for where in expected if where not in found]
    assert not gone, f"no longer different, take them off the list: {gone}"


def test_the_models_of_answers_are_the_contracts() -> None:
    comparison = Comparison(exact=True)
    compared = 0
    for endpoint in wire_check.ENDPOINTS:
        if endpoint.path.startswith("/kist/") or endpoint.path in contract.ABSENT:
            continue
        answers = _document()["paths"][endpoint.path][endpoint.method.lower()]["responses"]
        for status, one in answers.items():
            if str(status).startswith("2") and "schema" in one:
                name = f"{endpoint.method} {endpoint.path}"
                comparison.field(endpoint.model, one["schema"], name, name)
                compared += 1
    definitions = _document()["definitions"]
    comparison.struct(answer.Error, definitions["ErrorResponse"], "ErrorResponse")
    comparison.struct(answer.Progress, definitions["BuildInfo"], "BuildInfo")
    for name in PART_OF:
        comparison.struct(answer.Progress, definitions[name], name, part=True)
    assert compared > 25
    _reviewed(comparison.faults, ANSWERS)


def _body(method: str, path: str) -> dict[str, Any]:
    parameters = _document()["paths"][path][method]["parameters"]
    found: dict[str, Any] = next(one["schema"] for one in parameters if one["in"] == "body")
    return found


def test_the_models_of_requests_are_the_contracts() -> None:
    comparison = Comparison(exact=False)
    definitions = _document()["definitions"]
    for name, model in (
        ("ContainerConfig", config.ContainerConfig),
        ("HostConfig", config.HostConfig),
        ("EndpointSettings", config.EndpointSettings),
        ("VolumeCreateOptions", _CreateBody),
    ):
        comparison.struct(model, definitions[name], name)
    for path, body in (("/containers/{id}/exec", config.ExecConfig), ("/exec/{id}/start", _StartBody)):
        comparison.struct(body, _body("post", path), f"POST {path}")
    _reviewed(comparison.faults, REQUESTS)


@pytest.mark.parametrize("path", ["/containers/create", "/containers/{id}/json", "/images/json", "/info", "/events"])
def test_a_model_that_differs_is_noticed(path: str) -> None:
    """A field less, a field more and another type each are a fault."""
    endpoint = next(one for one in wire_check.ENDPOINTS if one.path == path)
    model = get_args(endpoint.model)[0] if get_origin(endpoint.model) is list else endpoint.model
    fields: list[Any] = [(field.name, field.type, field.default) for field in msgspec.structs.fields(model)]
    names = {field.name: field.encode_name for field in msgspec.structs.fields(model)}
    schema = contract.response_schema(endpoint.method, path, 201 if path.endswith("create") else 200)
    assert schema is not None
    first = next(field for field in fields if field[2] is msgspec.NODEFAULT)
    others = [field for field in fields if field is not first]

    def faults(changed: list[Any]) -> set[str]:
        made = msgspec.defstruct("Changed", changed, kw_only=True, rename=names)
        comparison = Comparison(exact=True)
        found, home, _ = _resolve(schema, "top")
        found = found.get("items", found)
        found, home, _ = _resolve(found, home)
        comparison.struct(made, found, home)
        return set(comparison.faults)

    usual = faults(fields)
    assert faults(others) - usual
    assert faults([*fields, ("more", int, 0)]) - usual
    assert faults([(first[0], bool if first[1] is not bool else int), *others]) - usual
