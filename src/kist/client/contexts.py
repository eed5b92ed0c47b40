"""Docker's store of contexts, which the docker command shares.

contexts/meta/<sha256 of the name>/meta.json                  name, description, endpoints
contexts/tls/<sha256 of the name>/<endpoint>/{ca,cert,key}.pem
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from typing import Any

from kist.client.hosts import TlsFiles
from kist.model.errors import KistError

DEFAULT = "default"
ENDPOINT = "docker"
TLS_NAMES = ("ca.pem", "cert.pem", "key.pem")
_PATTERN = "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"

Meta = dict[str, Any]  # as in meta.json; what other programs put there is kept
TlsData = dict[str, dict[str, bytes]]  # endpoint -> file name -> content


class ContextNotFound(KistError):
    """There is no context of this name."""


def check_name(name: str) -> None:
    """Raises KistError with Docker's texts."""
    if not name:
        raise KistError("context name cannot be empty")
    if name == DEFAULT:
        raise KistError('"default" is a reserved context name')
    if not re.fullmatch(_PATTERN[1:-1], name, re.ASCII):
        raise KistError(f'context name "{name}" is invalid, names are validated against regexp "{_PATTERN}"')


class ContextStore:
    """Contexts below one directory of configuration."""

    def __init__(self, directory: str) -> None:
        self._root = f"{directory}/contexts"

    def meta_directory(self, name: str) -> str:
        return f"{self._root}/meta/{_id(name)}"

    def tls_directory(self, name: str) -> str:
        return f"{self._root}/tls/{_id(name)}"

    def names(self) -> list[str]:
        """Raises KistError for one that cannot be read."""
        return [meta["Name"] for meta in self.all()]

    def all(self) -> list[Meta]:
        """Every context, unsorted. Raises KistError for one that cannot be read."""
        try:
            directories = sorted(entry.path for entry in os.scandir(f"{self._root}/meta") if entry.is_dir())
        except FileNotFoundError:
            return []
        found = []
        for directory in directories:
            try:
                found.append(_read_meta(f"{directory}/meta.json"))
            except FileNotFoundError:
                continue
            except KistError as error:
                raise KistError(f"failed to read metadata: {error.message}") from error
        return found

    def get(self, name: str) -> Meta:
        """Raises ContextNotFound with Docker's text, KistError."""
        path = f"{self.meta_directory(name)}/meta.json"
        try:
            return _read_meta(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ContextNotFound(
                f'context "{name}": context not found: open {path}: {(error.strerror or "").lower()}'
            ) from error
        except OSError as error:
            raise KistError(f"open {path}: {(error.strerror or '').lower()}") from error

    def exists(self, name: str) -> bool:
        return os.path.exists(f"{self.meta_directory(name)}/meta.json")

    def put(self, meta: Meta) -> None:
        directory = self.meta_directory(meta["Name"])
        os.makedirs(directory, mode=0o755, exist_ok=True)
        text = json.dumps(meta, separators=(",", ":"), ensure_ascii=False)
        _write(f"{directory}/meta.json", text.encode(), 0o644)

    def tls_files(self, name: str) -> dict[str, list[str]]:
        """Names of files by endpoint."""
        found = {}
        for endpoint in _listed(self.tls_directory(name)):
            found[endpoint] = _listed(f"{self.tls_directory(name)}/{endpoint}")
        return {endpoint: files for endpoint, files in found.items() if files}

    def tls_data(self, name: str) -> TlsData:
        found: TlsData = {}
        for endpoint, files in self.tls_files(name).items():
            found[endpoint] = {}
            for file in files:
                with open(f"{self.tls_directory(name)}/{endpoint}/{file}", "rb") as opened:
                    found[endpoint][file] = opened.read()
        return found

    def set_tls(self, name: str, data: TlsData) -> None:
        """In place of all there is."""
        shutil.rmtree(self.tls_directory(name), ignore_errors=True)
        for endpoint, files in data.items():
            self.set_endpoint_tls(name, endpoint, files)

    def set_endpoint_tls(self, name: str, endpoint: str, files: dict[str, bytes]) -> None:
        """In place of this endpoint's."""
        directory = f"{self.tls_directory(name)}/{endpoint}"
        shutil.rmtree(directory, ignore_errors=True)
        if not files:
            return
        for path in (f"{self._root}/tls", self.tls_directory(name), directory):  # makedirs' mode is the last one's only
            os.makedirs(path, mode=0o700, exist_ok=True)
        for file, content in files.items():
            _write(f"{directory}/{file}", content, 0o600)

    def remove(self, name: str) -> None:
        """Nothing when there is none."""
        shutil.rmtree(self.meta_directory(name), ignore_errors=True)
        shutil.rmtree(self.tls_directory(name), ignore_errors=True)

    def endpoint(self, name: str) -> tuple[str, TlsFiles | None]:
        """(host, TLS or None) of a context. Raises ContextNotFound, KistError."""
        found = self.get(name)["Endpoints"].get(ENDPOINT)
        if not isinstance(found, dict):
            raise KistError(f'docker endpoint not found in context "{name}"')
        skip = bool(found.get("SkipTLSVerify", False))
        files = self.tls_files(name).get(ENDPOINT, [])
        if not files and not skip:
            return str(found.get("Host", "")), None
        directory = f"{self.tls_directory(name)}/{ENDPOINT}"
        authority, certificate, key = (f"{directory}/{file}" if file in files else "" for file in TLS_NAMES)
        return str(found.get("Host", "")), TlsFiles(authority, certificate, key, not skip)


def _id(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


def _read_meta(path: str) -> Meta:
    with open(path, "rb") as file:
        return parse_meta(file.read(), path)


def parse_meta(data: bytes, what: str) -> Meta:
    """Raises KistError that names `what`."""
    try:
        found = json.loads(data)
        if not isinstance(found, dict) or not isinstance(found.get("Name"), str):
            raise ValueError("json: a context has a name")
        for key in ("Metadata", "Endpoints"):
            found[key] = found.get(key) or {}
            if not isinstance(found[key], dict):
                raise ValueError(f"json: {key} is not an object")
    except ValueError as error:
        raise KistError(f"parsing {what}: {error}") from error
    return found


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _write(path: str, data: bytes, mode: int) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=".new", dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
