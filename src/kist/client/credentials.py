"""Who the user is to a registry, as `docker login` left it in config.json, and the header that tells the daemon.

Three places, the first that is set counts: `credHelpers` names a program for one registry, `credsStore` one for all,
`auths` holds user and password itself, in base64. A program is `docker-credential-NAME`: with `get` it reads the
registry's address and prints JSON (docker-credential-helpers, the protocol in its README).
"""

from __future__ import annotations

import base64
import binascii
import json
import subprocess
from typing import Any

import msgspec

from kist.client.configfile import ConfigFile
from kist.model.errors import KistError
from kist.model.reference import Reference

HUB = "https://index.docker.io/v1/"  # the name that Docker Hub has in config.json
_NOT_FOUND = "credentials not found in native keychain"
_TOKEN_USER = "<token>"


class Credentials(msgspec.Struct, frozen=True, omit_defaults=True, rename={
    "server_address": "serveraddress", "identity_token": "identitytoken", "registry_token": "registrytoken",
}):  # fmt: skip
    """The fields of AuthConfig (Engine API, X-Registry-Auth), in its order. Without any the user is nobody."""

    username: str = ""
    password: str = ""
    server_address: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def header(self) -> str:
        """The value of X-Registry-Auth: JSON in base64 as for addresses."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()


def registry_of(image: str) -> str:
    """The name under which config.json knows an image's registry. Raises InvalidParameter for what is no reference."""
    domain = Reference.parse(image).name.partition("/")[0]
    return HUB if domain == "docker.io" else domain


def for_image(config: ConfigFile, image: str) -> Credentials:
    """What the registry of an image is to be told. Raises KistError when the program that knows fails."""
    registry = registry_of(image)
    helper = _helper(config, registry)
    return _ask(helper, registry) if helper else _stored(config, registry)


def _helper(config: ConfigFile, registry: str) -> str:
    helpers = config.get("credHelpers")
    found = helpers.get(registry) if isinstance(helpers, dict) else None
    found = found or config.get("credsStore") or ""
    if not isinstance(found, str) or "/" in found:
        raise KistError(
            f"{config.path}: {found!r} is no name of a credential helper: docker-credential-NAME is started"
        )
    return found


def _ask(helper: str, registry: str) -> Credentials:
    command = [f"docker-credential-{helper}", "get"]
    try:
        done = subprocess.run(command, input=registry.encode(), stdout=subprocess.PIPE, check=False)
    except FileNotFoundError as error:
        raise KistError(
            f'error getting credentials - err: exec: "{command[0]}": executable file not found in $PATH, out: ``'
        ) from error
    except OSError as error:
        raise KistError(f"error getting credentials - err: {command[0]}: {error.strerror}, out: ``") from error
    text = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode:
        if text == _NOT_FOUND:
            return Credentials()
        raise KistError(f"error getting credentials - err: exit status {done.returncode}, out: `{text}`")
    try:
        told = json.loads(text)
        user, secret = str(told["Username"]), str(told["Secret"])
        server = str(told.get("ServerURL") or registry)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KistError(
            f"error getting credentials - {command[0]} did not print what a credential helper prints"
        ) from error
    if user == _TOKEN_USER:
        return Credentials(server_address=server, identity_token=secret)
    return Credentials(username=user, password=secret, server_address=server)


def _stored(config: ConfigFile, registry: str) -> Credentials:
    """Of `auths`; keys of old are addresses with scheme and path."""
    known = config.get("auths")
    if not isinstance(known, dict):
        return Credentials()
    key = registry if registry in known else next((one for one in known if _hostname(one) == registry), "")
    entry: Any = known.get(key) or {}
    if not isinstance(entry, dict):
        raise KistError(f"{config.path}: auths of {key} is no object")
    user, password = _decoded(entry.get("auth"), key, config.path)
    return Credentials(
        username=user or str(entry.get("username", "")),
        password=password or str(entry.get("password", "")),
        server_address=key,
        identity_token=str(entry.get("identitytoken", "")),
        registry_token=str(entry.get("registrytoken", "")),
    )


def _decoded(text: Any, key: str, path: str) -> tuple[str, str]:
    if not text:
        return "", ""
    try:
        user, colon, password = base64.b64decode(str(text), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise KistError(f"{path}: auth of {key} is not in base64") from error
    if not colon or not user:
        raise KistError(f"{path}: auth of {key}: invalid auth configuration file")
    return user, password.strip("\0")


def _hostname(address: str) -> str:
    return address.removeprefix("http://").removeprefix("https://").partition("/")[0]
