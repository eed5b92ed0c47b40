"""kistd's command line, its start and its end."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from contextlib import ExitStack
from typing import Any

from kist import __version__
from kist.daemon import features
from kist.daemon.compose import Daemon
from kist.daemon.listen import Listener, TlsFiles, notify, open_listeners, serve
from kist.http.server import Connection
from kist.kernel import process
from kist.model.errors import InvalidParameter, KistError
from kist.settings import help as usage
from kist.settings.load import Help, Settings, ShowVersion, merge, parse_file, parse_flags
from kist.settings.load import reload as reload_settings
from kist.settings.options import BY_NAME
from kist.store.instance import Instance

log = logging.getLogger("kist.daemon")
_LEVELS = {"debug": 10, "info": 20, "warn": 30, "error": 40, "fatal": 50}


def main() -> None:
    """Entry of `kistd`. Exit status 0 at the end, 1 for what is wrong with the request or the machine, as dockerd."""
    try:
        _main()
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads the help on
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)


def _main() -> None:
    try:
        flags = parse_flags(sys.argv[1:])
    except Help:
        print(usage.render())
        return
    except ShowVersion:
        print(f"kistd version {__version__}")
        return
    except InvalidParameter as error:
        _fail(error.message, 1)
    try:
        settings = load_settings(flags)
    except KistError as error:
        _fail(error.message, 1)
    if settings.flag("validate"):
        print("configuration OK")
        return
    if os.geteuid() != 0:
        _fail("kistd needs to be started with root privileges: use sudo, or run it as root", 1)
    _set_up_logging(settings)
    try:
        features.check()
        process.raise_descriptor_limit()
        asyncio.run(run(settings, flags))
    except KistError as error:
        _fail(f"failed to start daemon: {error.message}", 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"failed to start daemon: {where}{error.strerror or error}", 1)


def _fail(message: str, status: int) -> Any:
    print(message, file=sys.stderr)
    sys.exit(status)


def load_settings(flags: dict[str, Any]) -> Settings:
    """Flags and the configuration file together. Raises KistError; a default file that is not there is no error."""
    path = config_path(flags)
    return merge(flags, parse_file(_read_config(path, required="config-file" in flags), path), path)


def config_path(flags: dict[str, Any]) -> str:
    return str(flags.get("config-file", BY_NAME["config-file"].default))


def _read_config(path: str, *, required: bool) -> str:
    """Raises KistError. A byte order mark is skipped, as dockerd does."""
    where = f"unable to configure the Docker daemon with file {path}"
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except FileNotFoundError as error:
        if required:
            raise KistError(f"{where}: open {path}: no such file or directory") from error
        return ""
    except UnicodeDecodeError as error:
        raise KistError(f"{where}: it is not UTF-8: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise KistError(f"{where}: open {path}: {(error.strerror or '').lower()}") from error


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {"time": self.formatTime(record), "level": record.levelname.lower(), "msg": record.getMessage()}
        )


def _set_up_logging(settings: Settings) -> None:
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_JsonLines() if settings.text("log-format") == "json" else text)
    level = 10 if settings.flag("debug") else _LEVELS[settings.text("log-level")]
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("asyncio").setLevel(max(level, 30))


async def run(settings: Settings, flags: dict[str, Any]) -> None:
    """From the locks to the last answer. Raises KistError when it cannot start; then nothing is left behind."""
    pidfile = settings.text("pidfile")
    tls = _tls(settings)
    connections: set[Connection] = set()
    with Instance(settings.text("data-root"), settings.text("exec-root")) as instance, ExitStack() as stack:
        _write_pidfile(pidfile)
        stack.callback(_remove_pidfile, pidfile)
        listeners = open_listeners(settings.words("host"), settings.text("group"), tls=tls is not None)
        for listener in listeners:
            stack.callback(listener.close)
        daemon = Daemon(settings, instance)
        try:
            await daemon.start()
            app = daemon.app()
            servers = await serve(listeners, tls, lambda: Connection(app.handle, connections))
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            loop.add_signal_handler(signal.SIGHUP, lambda: _reload(daemon, flags))
            gc.collect()
            gc.freeze()
            notify("READY=1")
            log.info("API listen on %s", ", ".join(map(_address, listeners)))
            await stop.wait()
            notify("STOPPING=1")
            await _shut_down(servers, listeners, connections, daemon.settings.number("shutdown-timeout"))
        finally:
            await daemon.close()


def _address(listener: Listener) -> str:
    name = listener.socket.getsockname()
    return f"unix://{name}" if isinstance(name, str) else f"tcp://{name[0]}:{name[1]}"


async def _shut_down(
    servers: list[asyncio.Server], listeners: list[Listener], connections: set[Connection], seconds: int
) -> None:
    """No new requests; those under way get `seconds` (negative: all they need), streams without an end none."""
    for server in servers:
        server.close()
    for listener in listeners:
        listener.close()
    busy = [one.task for one in connections if one.task is not None and not one.endless]
    if busy:
        await asyncio.wait(busy, timeout=None if seconds < 0 else seconds)
    for one in list(connections):
        one.close()


def _tls(settings: Settings) -> TlsFiles | None:
    if not (settings.flag("tls") or settings.flag("tlsverify")):
        return None
    home = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")
    return TlsFiles(
        certificate=settings.text("tlscert") or f"{home}/cert.pem",
        key=settings.text("tlskey") or f"{home}/key.pem",
        authority=settings.text("tlscacert") or f"{home}/ca.pem",
        verify=settings.flag("tlsverify"),
    )


def _reload(daemon: Daemon, flags: dict[str, Any]) -> None:
    """SIGHUP. What is wrong is logged, and everything stays as it was."""
    path = config_path(flags)
    try:
        text = _read_config(path, required="config-file" in flags)
        settings, changed, kept = reload_settings(daemon.settings, flags, text, path)
    except KistError as error:
        log.error("the configuration was not reloaded: %s", error.message)
        return
    daemon.apply(settings)
    logging.getLogger().setLevel(10 if settings.flag("debug") else _LEVELS[settings.text("log-level")])
    if kept:
        log.warning("a new value needs a restart of kistd: %s", ", ".join(kept))
    log.info("configuration reloaded: %s", ", ".join(changed) or "nothing changed")


def _write_pidfile(path: str) -> None:
    """Raises KistError when a living process holds it or it cannot be written."""
    try:
        with open(path, encoding="ascii") as file:
            other = int(file.read().strip() or 0)
        if other and other != os.getpid() and _alive(other):
            raise KistError(
                f"process with PID {other} is still running: end it, or delete {path} if that is another program"
            )
    except (FileNotFoundError, ValueError):
        pass
    try:
        os.makedirs(os.path.dirname(path) or "/", exist_ok=True)
        with open(path, "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
    except OSError as error:
        raise KistError(f"cannot write the pid file {path}: {error.strerror}") from error


def _alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not (proc_pid_stat(5))."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _remove_pidfile(path: str) -> None:
    try:
        with open(path, encoding="ascii") as file:
            if file.read().strip() != str(os.getpid()):
                return
        os.unlink(path)
    except OSError:
        return


if __name__ == "__main__":
    main()
