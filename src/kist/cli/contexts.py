"""`kist context`: the contexts of Docker's store, listed and changed."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

from kist.cli import tables
from kist.cli.context import Context
from kist.cli.parse import Parsed
from kist.client import archive
from kist.client.contexts import (
    DEFAULT,
    ENDPOINT,
    TLS_NAMES,
    ContextNotFound,
    Meta,
    TlsData,
    check_name,
)
from kist.client.hosts import TlsFiles, check_stored
from kist.client.tls import client_context
from kist.model.errors import KistError
from kist.model.goformat import Struct
from kist.model.template import TemplateError

_DEFAULT_DESCRIPTION = "Current DOCKER_HOST based configuration"
_IN_MEMORY = "<IN MEMORY>"
_COLUMNS = {"Name": "NAME", "Description": "DESCRIPTION", "DockerEndpoint": "DOCKER ENDPOINT", "Error": "ERROR"}
_TABLE = "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}"
_LISTING = tables.Listing("*formatter.clientContextContext", _COLUMNS, _TABLE, quiet="Name", quiet_wins=True)
_KEYS = ("from", "host", "ca", "cert", "key", "skip-tls-verify")
_BOOLEANS = {**dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
             **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False", ""), False)}  # fmt: skip


class _Row(Struct):
    kind = "*formatter.clientContextContext"
    marshals = True


class _Inspected(Struct):
    kind = "context.contextWithTLSListing"


def ls(context: Context, options: Parsed) -> int:
    choice = context.choice
    rows = [_row(meta, choice.context) for meta in choice.store.all()]
    host, _ = choice.default_endpoint()
    rows.append(_make_row(DEFAULT, choice.context, _DEFAULT_DESCRIPTION, host))
    if not any(row["Current"] for row in rows):
        try:
            choice.store.get(choice.context)
            error = ""
        except KistError as missing:
            error = missing.message
        rows.append(_make_row(choice.context, choice.context, error=_shortened(error)))
    rows.sort(key=lambda row: natural_key(str(row["Name"])))
    sys.stdout.write(tables.show(rows, options.format, _LISTING, quiet=options.quiet))
    if choice.host_variable:
        print(f"Warning: {choice.host_variable} environment variable overrides the active context. To use a context, "
              f"either set the global --context flag, or unset {choice.host_variable} environment variable.",
              file=sys.stderr)  # fmt: skip
    return 0


def _row(meta: Meta, current: str) -> _Row:
    endpoint = meta["Endpoints"].get(ENDPOINT) or {}
    return _make_row(meta["Name"], current, meta["Metadata"].get("Description", ""), endpoint.get("Host", ""))


def _make_row(name: str, current: str, description: str = "", host: str = "", error: str = "") -> _Row:
    """In the order of json, which is the alphabet's."""
    return _Row(Current=name == current, Description=description, DockerEndpoint=host, Error=error, Name=name)


def _shortened(text: str) -> str:
    return text if len(text) <= 45 else text[:44] + "…"


def natural_key(name: str) -> list[tuple[int, int, int]]:
    """Numbers by value and before anything else (sortorder.NaturalLess)."""
    return [
        (0, int(part), len(part)) if part[0].isdigit() else (1, ord(part), 0)
        for part in re.findall(r"[0-9]+|[^0-9]", name, re.DOTALL)
    ]


def show(context: Context, options: Parsed) -> int:
    print(context.choice.context)
    return 0


def use(context: Context, options: Parsed) -> int:
    if len(options.arguments) != 1:
        raise KistError(f"accepts 1 arg(s), received {len(options.arguments)}")
    name, choice = options.arguments[0], context.choice
    if name != DEFAULT:
        check_name(name)
        choice.store.get(name)
    choice.config.set_current_context("" if name == DEFAULT else name)
    print(name)
    print(f'Current context is now "{name}"', file=sys.stderr)
    if name != DEFAULT and choice.host_variable:
        print(f'Warning: {choice.host_variable} environment variable overrides the active context. To use "{name}", '
              f"either set the global --context flag, or unset {choice.host_variable} environment variable.",
              file=sys.stderr)  # fmt: skip
    return 0


def inspect(context: Context, options: Parsed) -> int:
    found, errors = [], []
    for name in options.arguments or [context.choice.context]:
        try:
            found.append(_inspected(context, name))
        except KistError as error:
            errors.append(error.message)
    if not options.format:
        print(_escaped(json.dumps(found, indent=4, ensure_ascii=False) if found else "[]"))
    elif options.format == "json":
        print(_escaped(json.dumps(found, separators=(",", ":"), ensure_ascii=False)))
    else:
        from kist.model.template import parsed

        template = parsed(options.format)
        try:
            sys.stdout.write("".join(f"{template.render(one)}\n" for one in found) or "\n")
        except TemplateError:
            print()
            raise
    if errors:
        raise KistError("\n".join(errors))
    return 0


def _escaped(text: str) -> str:
    """As Go's json.Marshal writes what HTML would read."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _inspected(context: Context, name: str) -> _Inspected:
    store = context.choice.store
    if name == DEFAULT:
        meta, tls = _default(context)
        files = {endpoint: sorted(found) for endpoint, found in tls.items()}
        places = (_IN_MEMORY, _IN_MEMORY)
    else:
        meta, files = store.get(name), store.tls_files(name)
        places = (store.meta_directory(name), store.tls_directory(name))
    return _Inspected(
        Name=meta["Name"],
        Metadata=dict(sorted((key, value) for key, value in meta["Metadata"].items() if value != "")),
        Endpoints={key: _whole(key, value) for key, value in sorted(meta["Endpoints"].items())},
        TLSMaterial=files,
        Storage={"MetadataPath": places[0], "TLSPath": places[1]},
    )


def _whole(name: str, endpoint: Any) -> Any:
    return {**endpoint, "SkipTLSVerify": endpoint.get("SkipTLSVerify", False)} if name == ENDPOINT else endpoint


def _default(context: Context) -> tuple[Meta, TlsData]:
    """The context that flags and environment make. Raises KistError."""
    host, files = context.choice.default_endpoint()
    skip = files is not None and not files.verify
    meta = {"Name": DEFAULT, "Metadata": {}, "Endpoints": {ENDPOINT: {"Host": host, "SkipTLSVerify": skip}}}
    data = _read_files(files.authority, files.certificate, files.key) if files is not None else {}
    return meta, {ENDPOINT: data} if data else {}


def _read_files(*paths: str) -> dict[str, bytes]:
    """The contents of ca, cert and key, without those that are "". Raises KistError with Docker's text."""
    found = {}
    for name, path in zip(TLS_NAMES, paths, strict=True):
        if path:
            found[name] = _read(path)
    return found


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise KistError(f"open {path}: {(error.strerror or '').lower()}") from error


def _stored(context: Context, name: str) -> tuple[Meta, TlsData]:
    """A context by name, `default` too, with all its files. Raises KistError."""
    if name == DEFAULT:
        return _default(context)
    store = context.choice.store
    return store.get(name), store.tls_data(name)


def create(context: Context, options: Parsed) -> int:
    name, store = options.arguments[0], context.choice.store
    _check_new(context, name)
    source = getattr(options, "from")
    if source and options.docker:
        raise KistError("cannot use --docker flag when --from is set")
    if options.docker:
        endpoint, files = _endpoint(context, options.docker)
        meta: Meta = {"Name": name, "Metadata": {}, "Endpoints": {ENDPOINT: endpoint}}
        tls: TlsData = {ENDPOINT: files} if files else {}
    else:
        source = source or context.choice.context
        meta, tls = _stored(context, source)
        meta = {**meta, "Name": name}
        if source == DEFAULT:
            meta["Metadata"] = {"Description": _DEFAULT_DESCRIPTION}
    if options.description:
        meta["Metadata"] = {**meta["Metadata"], "Description": options.description}
    store.set_tls(name, tls)  # first, so that nobody sees a context without its keys
    store.put(meta)
    return _done("created", name)


def _check_new(context: Context, name: str) -> None:
    check_name(name)
    if context.choice.store.exists(name):
        raise KistError(f'context "{name}" already exists')


def _done(verb: str, name: str) -> int:
    print(name)
    print(f'Successfully {verb} context "{name}"', file=sys.stderr)
    return 0


def _endpoint(context: Context, given: dict[str, str]) -> tuple[Meta, dict[str, bytes]]:
    """(endpoint, TLS files) of --docker. Raises KistError with Docker's texts."""
    try:
        unknown = [f"unrecognized config key: {key}" for key in given if key not in _KEYS]
        if unknown:
            raise KistError("\n".join(unknown))
        if "from" in given:
            meta, _ = _stored(context, given["from"])
            return meta["Endpoints"].get(ENDPOINT, {}), {}
        authority, certificate, key = (given.get(one, "") for one in ("ca", "cert", "key"))
        files = _read_files(authority, certificate, key)
        skip = given.get("skip-tls-verify", "")
        if skip not in _BOOLEANS:
            raise KistError(f'skip-tls-verify: parsing "{skip}": invalid syntax')
        host = given.get("host", "")
        check_stored(host)
        if files:
            _check_tls(TlsFiles(authority, certificate, key, not _BOOLEANS[skip]))
        endpoint: Meta = {"Host": host} if host else {}
        return {**endpoint, "SkipTLSVerify": _BOOLEANS[skip]}, files
    except KistError as error:
        raise KistError(f"unable to create docker endpoint config: {error.message}") from error


def _check_tls(files: TlsFiles) -> None:
    try:
        client_context(files)
    except KistError as error:
        raise KistError(f"invalid docker endpoint options: {error.message}") from error


def update(context: Context, options: Parsed) -> int:
    name, store = options.arguments[0], context.choice.store
    check_name(name)
    meta = store.get(name)
    if options.description:
        meta["Metadata"]["Description"] = options.description
    if options.docker:
        meta["Endpoints"][ENDPOINT], files = _endpoint(context, options.docker)
        store.set_endpoint_tls(name, ENDPOINT, files)
    store.put(meta)
    return _done("updated", name)


def remove(context: Context, options: Parsed) -> int:
    errors = []
    for name in options.arguments:
        try:
            _remove(context, name, options.force)
        except KistError as error:
            errors.append(error.message)
        else:
            print(name)
    if errors:
        raise KistError("\n".join(errors))
    return 0


def _remove(context: Context, name: str, force: bool) -> None:
    choice = context.choice
    if name == DEFAULT:
        raise KistError('context "default" cannot be removed')
    if name == choice.context and not force:
        raise KistError(f'context "{name}" is in use, set -f flag to force remove')
    if not force and not choice.store.exists(name):
        raise ContextNotFound(f'context "{name}" does not exist')
    if name == choice.config.current_context:
        choice.config.set_current_context("")
    choice.store.remove(name)


def export(context: Context, options: Parsed) -> int:
    name = options.arguments[0]
    if name != DEFAULT:
        check_name(name)
    target = options.arguments[1] if len(options.arguments) > 1 else f"{name}.dockercontext"
    if target == "-" and os.isatty(1):
        raise KistError("cowardly refusing to export to a terminal, specify a file path")
    packed = archive.pack(*_stored(context, name))
    if target == "-":
        sys.stdout.buffer.write(packed)
        return 0
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise KistError(f"open {target}: {(error.strerror or '').lower()}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(packed)
    print(f'Written file "{target}"', file=sys.stderr)
    return 0


def import_(context: Context, options: Parsed) -> int:
    name, source = options.arguments
    _check_new(context, name)
    meta, tls = archive.unpack(sys.stdin.buffer.read() if source == "-" else _read(source), name)
    context.choice.store.set_tls(name, tls)
    context.choice.store.put(meta)
    return _done("imported", name)
