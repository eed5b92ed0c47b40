"""The entry of `kist-runtime`: what is asked, the sealed interpreter, and the command that does it."""

from __future__ import annotations

import os
import sys

from kist import __version__
from kist.kernel.sealed import sealed_interpreter
from kist.lowlevel import arguments
from kist.lowlevel.errors import Log, RuntimeFailure

SPEC_VERSION = "1.2.0"
_ENTERS = ("create", "run", "exec")  # what goes into a container


def main() -> None:
    """Exit status 0, 1 for every failure, that of the program for `run` and `exec` in the foreground."""
    log = Log()
    try:
        parsed = arguments.parse(sys.argv[1:])
        if parsed.general["help"] or not (parsed.command or parsed.general["version"]):
            print(arguments.usage())
            return
        if parsed.general["version"]:
            print(f"kist-runtime version {__version__}\nspec: {SPEC_VERSION}")
            return
        if parsed.options["help"]:
            print(arguments.usage(parsed.command))
            return
        log = Log(str(parsed.general["log"]), _style(parsed), bool(parsed.general["debug"]))
        _check(parsed)
        if parsed.command in _ENTERS and not os.readlink("/proc/self/exe").startswith("/memfd:"):
            _run_sealed()
        status = _dispatch(parsed, log)
    except RuntimeFailure as failure:
        log.fail(failure.message)
        status = failure.status
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        log.fail(f"{where}{(error.strerror or str(error)).lower()}")
        status = 1
    except Exception as error:  # a defect of this command: said in a line all the same
        log.fail(f"internal error: {type(error).__name__}: {error}")
        status = 1
    try:
        sys.stdout.flush()
    except OSError:
        status = status or 1  # nobody reads it
    os._exit(status)


def _style(parsed: arguments.Parsed) -> str:
    style = str(parsed.general["log-format"])
    if style not in ("text", "json"):
        raise RuntimeFailure(f'invalid log-format "{style}": use text or json')
    return style


def _check(parsed: arguments.Parsed) -> None:
    manager = parsed.general["cgroup-manager"]
    if manager != "cgroupfs":
        raise RuntimeFailure(f"--cgroup-manager {manager} is not supported: cgroupfs is the only one")
    if parsed.general["rootless"] not in ("auto", "false"):
        raise RuntimeFailure("--rootless is not supported: running without root comes with a later version")
    if parsed.command in ("checkpoint", "restore"):
        raise RuntimeFailure(f"{parsed.command} is not supported: kist-runtime does not work with criu")
    if os.geteuid() != 0 and parsed.command not in ("features", "spec"):
        raise RuntimeFailure("kist-runtime must be run as root")


def _run_sealed() -> None:
    """The same once more by a copy of the interpreter that nobody can write: what enters a container shows it there as
    /proc/self/exe (CVE-2019-5736).
    """
    code = f"import sys; sys.path[:] = {sys.path!r}; from kist.lowlevel.main import main; main()"
    words = [sys.executable, "-I", "-S", "-X", "utf8", "-c", code, *sys.argv[1:]]
    os.execve(f"/proc/self/fd/{sealed_interpreter()}", words, {**os.environ, "LC_ALL": "C.UTF-8"})


def _dispatch(parsed: arguments.Parsed, log: Log) -> int:
    """Each command imports what it needs: the time a command takes to start is felt by every caller."""
    root = str(parsed.general["root"])
    options, words = parsed.options, parsed.arguments
    if parsed.command in ("create", "run"):
        from kist.lowlevel import creating

        return creating.command(root, words[0], options, log, run=parsed.command == "run")
    if parsed.command == "start":
        from kist.lowlevel import starting

        return starting.command(root, words[0], log)
    if parsed.command == "exec":
        from kist.lowlevel import executing

        return executing.command(root, words[0], words[1:], options, log)
    if parsed.command in ("update", "events"):
        from kist.lowlevel import resources

        if parsed.command == "update":
            return resources.update(root, words[0], options)
        return resources.events(root, words[0], options)
    if parsed.command in ("features", "spec"):
        from kist.lowlevel import templates

        return templates.features() if parsed.command == "features" else templates.spec(str(options["bundle"]))
    from kist.lowlevel import inspecting

    commands = {
        "state": inspecting.show,
        "kill": inspecting.kill,
        "delete": inspecting.delete,
        "list": inspecting.listing,
        "ps": inspecting.processes,
        "pause": inspecting.pause,
        "resume": inspecting.resume,
    }
    return commands[parsed.command](root, words, options, log)


if __name__ == "__main__":
    main()
