"""`kist version` and `kist info`: the command and the daemon, told as Docker's command tells them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from kist import __version__
from kist.cli import tables
from kist.cli.context import Context
from kist.cli.parse import Parsed
from kist.client.http import API_VERSION, Unreachable
from kist.model.errors import KistError

if TYPE_CHECKING:
    from kist.model.goformat import Struct
    from kist.model.template import Template, TemplateError

_ORDER = ("Platform", "Components", "Version", "ApiVersion", "MinAPIVersion")


def _client(context: Context) -> dict[str, Any]:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    return {
        "Version": __version__,
        "ApiVersion": context.version,
        "DefaultAPIVersion": API_VERSION,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": machine,
        "BuildTime": "",
        "Context": context.choice.context,
    }


def version(context: Context, options: Parsed) -> int:
    client = _client(context)
    found: dict[str, Any] = {"Client": client, "Server": None}
    failure: KistError | None = None
    try:
        answer = context.client.call("GET", "/version")
        found["Server"] = {key: answer[key] for key in _ORDER if key in answer} | answer
    except Unreachable as error:
        failure = error
    client["ApiVersion"] = context.client.version
    if options.format:
        from kist.cli.shapes import struct

        wrong = _formatted(_template(options.format, "version"), struct(found, "system.versionInfo"))
        failure = failure or wrong
    else:
        print(f"Client:\n Version:           {__version__}\n API version:       {client['ApiVersion']}")
        print(f" OS/Arch:           linux/{client['Arch']}\n Context:           {client['Context']}")
        if found["Server"] is not None:
            _print_server(found["Server"])
    if failure is not None:
        raise failure
    return 0


def _template(source: str, name: str = "") -> Template:
    from kist.model.template import parsed

    template = parsed("{{json .}}" if source == "json" else source, name=name)
    template.prefix = ""
    return template


def _formatted(template: Template, value: Struct) -> TemplateError | None:
    """A line that is cut short by an error is printed before it, as Docker's command does; gives the error."""
    from kist.model.template import TemplateError

    try:
        print(template.render(value))
    except TemplateError as error:
        print(template.so_far)
        return error
    return None


def _print_server(server: dict[str, Any]) -> None:
    print(f"\nServer: {server['Platform']['Name']}")
    for one in server["Components"]:
        details = one.get("Details") or {}
        print(f" {one['Name']}:\n  {'Version:':<18}{one['Version']}")
        if one["Name"] != "Engine":
            print("".join(f"  {key + ':':<18}{details[key]}\n" for key in sorted(details)), end="")
            continue
        print(f"  {'API version:':<18}{details['ApiVersion']} (minimum version {details['MinAPIVersion']})")
        print(f"  {'Git commit:':<18}{details['GitCommit']}\n  {'OS/Arch:':<18}{details['Os']}/{details['Arch']}")
        print(f"  {'Kernel:':<18}{details['KernelVersion']}\n  {'Experimental:':<18}{details['Experimental']}")


def _formatted_info(context: Context, client: dict[str, Any], source: str) -> int:
    """The daemon is asked only where the format wants more than is known of the command. Raises KistError."""
    from kist.cli.shapes import struct
    from kist.model.template import TemplateError

    template = _template(source)
    found: dict[str, Any] = {"ClientInfo": {**_client(context), **client}}
    failure: KistError | None = None
    try:
        template.render(struct(found, "system.sparseInfo"))
        known = source != "json"
    except TemplateError:
        known = False
    try:
        found = found if known else context.client.call("GET", "/info") | found
    except Unreachable as error:
        failure = error
    wrong = _formatted(template, struct(found, "system.dockerInfo"))
    errors = [error for error in (failure, wrong) if error is not None]
    if errors:
        raise KistError("\n".join(error.message for error in errors))
    return 0


def info(context: Context, options: Parsed) -> int:
    client = {"Debug": False, "Context": context.choice.context, "Plugins": [], "Warnings": None}
    if options.format:
        return _formatted_info(context, client, options.format)
    failure: KistError | None = None
    found: dict[str, Any] = {}
    try:
        found = context.client.call("GET", "/info")
    except Unreachable as error:
        failure = error
    print(f"Client:\n Version:    {__version__}\n Context:    {client['Context']}\n Debug Mode: false\n\nServer:")
    if failure is not None:
        raise failure
    print("\n".join(_server_lines(found)) + "\n")
    for warning in found.get("Warnings") or ():
        print(warning, file=sys.stderr)
    return 0


def _server_lines(found: dict[str, Any]) -> list[str]:
    """A line for each thing that the daemon tells, as Docker indents them."""
    lines = [f" Containers: {found['Containers']}"]
    lines += [f"  {word}: {found[f'Containers{word}']}" for word in ("Running", "Paused", "Stopped")]
    lines += [f" Images: {found['Images']}", f" Server Version: {found['ServerVersion']}"]
    lines.append(f" Storage Driver: {found['Driver']}")
    lines += [f"  {name}: {value}" for name, value in found.get("DriverStatus") or ()]
    lines += [f" Logging Driver: {found['LoggingDriver']}", f" Cgroup Driver: {found['CgroupDriver']}"]
    lines += [f" Cgroup Version: {found['CgroupVersion']}", " Plugins:"]
    plugins = found["Plugins"]
    lines += [
        f"  {kind}: {' '.join(plugins[kind])}"
        for kind in ("Volume", "Network", "Authorization", "Log")
        if plugins.get(kind)
    ]
    if found.get("CDISpecDirs"):
        lines.append(" CDI spec directories:")
        lines += [f"  {one}" for one in found["CDISpecDirs"]]
    lines.append(f" Swarm: {(found.get('Swarm') or {}).get('LocalNodeState') or 'inactive'}")
    if found.get("Runtimes"):
        lines += [f" Runtimes: {' '.join(sorted(found['Runtimes']))}", f" Default Runtime: {found['DefaultRuntime']}"]
    if found.get("InitBinary"):
        lines.append(f" Init Binary: {found['InitBinary']}")
    lines += _security_lines(found.get("SecurityOptions") or ())
    lines += [f" Kernel Version: {found['KernelVersion']}", f" Operating System: {found['OperatingSystem']}"]
    lines += [
        f" {name}: {found[key]}"
        for name, key in (("OSType", "OSType"), ("Architecture", "Architecture"), ("CPUs", "NCPU"))
    ]
    lines += [
        f" Total Memory: {tables.binary_size(found['MemTotal'])}",
        f" Name: {found['Name']}",
        f" ID: {found['ID']}",
    ]
    lines += [f" Docker Root Dir: {found['DockerRootDir']}", f" Debug Mode: {_word(found['Debug'])}"]
    for name, key in (("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy")):
        lines += [f" {name}: {found[key]}"] if found.get(key) else []
    if found.get("Labels"):
        lines.append(" Labels:")
        lines += [f"  {one}" for one in found["Labels"]]
    lines.append(f" Experimental: {_word(found['ExperimentalBuild'])}")
    lines.append(f" Live Restore Enabled: {_word(found['LiveRestoreEnabled'])}")
    return lines


def _security_lines(options: Any) -> list[str]:
    """`name=seccomp,profile=builtin`: the name, and below it the rest."""
    lines = [" Security Options:"] if options else []
    for option in options:
        fields = [field.partition("=")[::2] for field in option.split(",")]
        lines += [f"  {value}" if key == "name" else f"   {key.capitalize()}: {value}" for key, value in fields]
    return lines


def _word(value: bool) -> str:
    return "true" if value else "false"
