"""The contract, Engine API v1.51 as swagger, read as JSON Schema. It lies beside the project; without it nothing is
held against it, and the tests that are about nothing else are skipped and say so.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jsonschema
import yaml

# What answers have as null where the contract does not say so, and why. Everything else is as the contract has it.
NULLS = {
    "Resources.MemorySwappiness": "a pointer in dockerd: null when nobody asked for one",
    "Resources.OomKillDisable": "a pointer in dockerd: null where the kernel has no such switch (cgroup v2)",
    "GET /exec/{id}/json.ExitCode": "a pointer in dockerd: null until the exec has ended",
}
FILE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "engine-api-v1.51.yaml"
MISSING = f"there is no contract to hold answers against: {FILE} is missing"
ABSENT = frozenset({"/containers/{id}/checkpoints"})  # of experimental engines only; the contract does not have it


@functools.cache
def load() -> dict[str, Any] | None:
    """The whole file, or None where it is not."""
    if not FILE.exists():
        return None
    document: dict[str, Any] = yaml.load(FILE.read_text(), Loader=yaml.CSafeLoader)
    return document


@functools.cache
def _definitions() -> dict[str, Any]:
    document = load()
    assert document is not None
    return {name: as_json_schema(_with_nulls(name, one)) for name, one in document["definitions"].items()}


def _with_nulls(home: str, schema: dict[str, Any]) -> dict[str, Any]:
    """With what NULLS says of this definition."""
    properties = schema.get("properties")
    if not properties:
        return schema
    allowed = {name: {**one, "x-nullable": True} for name, one in properties.items() if f"{home}.{name}" in NULLS}
    return {**schema, "properties": {**properties, **allowed}}


def as_json_schema(schema: Any) -> Any:
    """A swagger schema as JSON Schema.

    `x-nullable` becomes null. The contract leaves out that Go writes null for a slice or a map that is nil, so null
    is taken for every array and object; the typed models are exact there.
    """
    if isinstance(schema, list):
        return [as_json_schema(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: as_json_schema(value)
        for key, value in schema.items()
        if key not in ("example", "description", "title", "format", "default")
        or (key in ("description", "title", "format", "default") and isinstance(value, dict))
    }
    nullable = schema.get("x-nullable") is True or schema.get("type") in ("array", "object")
    if nullable and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
        if isinstance(made.get("enum"), list):
            made["enum"] = [*made["enum"], None]
    elif nullable and "allOf" in made:
        return {"anyOf": [made, {"type": "null"}]}
    return made


def response_schema(method: str, path: str, status: int) -> dict[str, Any] | None:
    """Raises KeyError for what the contract does not know; None when it tells of no body."""
    document = load()
    assert document is not None
    answers = document["paths"][path][method.lower()]["responses"]
    schema: dict[str, Any] | None = {str(key): value for key, value in answers.items()}[str(status)].get("schema")
    return schema


@functools.cache
def _validator(method: str, path: str, status: int) -> Any:
    schema = response_schema(method, path, status)
    if schema is None:
        return None
    whole = {**as_json_schema(_with_nulls(f"{method} {path}", schema)), "definitions": _definitions()}
    return jsonschema.Draft4Validator(whole)


def check_answer(where: str, method: str, path: str, status: int, value: Any) -> bool:
    """Whether the contract says something of this answer and it holds. Raises AssertionError when it does not hold."""
    if load() is None or path.startswith("/kist/") or path in ABSENT:
        return False
    validator = _validator(method, path, status)
    if validator is None:
        return False
    faults = [f"{one.json_path}: {one.message}" for one in validator.iter_errors(value)]
    if faults:
        raise AssertionError(f"{where}: not as the contract says: " + "; ".join(faults))
    return True
