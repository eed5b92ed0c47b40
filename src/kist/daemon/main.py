"""kistd's command line, its start and its end."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from typing import Any

from kist import __version__
from kist.daemon.compose import Daemon
from kist.daemon.listen import TlsFiles, notify, serve
from kist.http.server import Connection
from kist.model.errors import InvalidParameter, KistError
from kist.settings import help as usage
from kist.settings.load import Help, Settings, ShowVersion, merge, parse_file, parse_flags
from kist.settings.load import check as check_settings
from kist.settings.load import reload as reload_settings
from kist.settings.options import BY_NAME

log = logging.getLogger("kist.daemon")
_LEVELS = {"debug": 10, "info": 20, "warn": 30, "error": 40, "fatal": 50}


def main() -> None:
    """Entry of `kistd`. Exit status 0 at the end, 1 for what is wrong with the request or the machine, 125 as dockerd
    for a wrong flag.
    """
    try:
        flags = parse_flags(sys.argv[1:])
    except Help:
        print(usage.render())
        return
    except ShowVersion:
        print(f"kistd version {__version__}")
        return
    except InvalidParameter as error:
        _fail(error.message, 125)
    try:
        settings = load_settings(flags)
        check_settings(settings)
    except KistError as error:
        _fail(f"unable to configure the daemon: {error.message}", 1)
    if settings.flag("validate"):
        print("configuration OK")
        return
    if os.geteuid() != 0:
        _fail("kistd needs to be started with root privileges", 1)
    _set_up_logging(settings)
    try:
        asyncio.run(run(settings, flags))
    except KistError as error:
        _fail(f"failed to start daemon: {error.message}", 1)


def _fail(message: str, status: int) -> Any:
    print(message, file=sys.stderr)
    sys.exit(status)


def load_settings(flags: dict[str, Any]) -> Settings:
    """Flags and the configuration file together. Raises KistError; a default file that is not there is no error."""
    path = str(flags.get("config-file", BY_NAME["config-file"].default))
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError as error:
        if "config-file" in flags:
            raise KistError(f"unable to read configuration file {path}: no such file or directory") from error
        text = ""
    except OSError as error:
        raise KistError(f"unable to read configuration file {path}: {error.strerror}") from error
    return merge(flags, parse_file(text, path) if text.strip() else {}, path)


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
    """From the locks to the last answer. Raises KistError when it cannot start."""
    daemon = Daemon(settings)
    pidfile = settings.text("pidfile")
    connections: set[Connection] = set()
    try:
        await daemon.start()
        _write_pidfile(pidfile)
        app = daemon.app()
        servers = await serve(
            settings.words("host"), settings.text("group"), _tls(settings), lambda: Connection(app.handle, connections)
        )
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: _reload(daemon, flags))
        gc.collect()
        gc.freeze()
        notify("READY=1")
        log.info("API listen on %s", ", ".join(settings.words("host")) or "unix:///run/kist.sock")
        await stop.wait()
        notify("STOPPING=1")
        await _shut_down(servers, connections, settings)
    finally:
        await daemon.close()
        _remove_pidfile(pidfile)


async def _shut_down(servers: list[asyncio.Server], connections: set[Connection], settings: Settings) -> None:
    """No new requests; those under way get their time."""
    for server in servers:
        server.close()
    for host in settings.words("host") or ("unix:///run/kist.sock",):
        if host.startswith("unix://"):
            try:
                os.unlink(host.removeprefix("unix://"))
            except OSError:
                continue
    deadline = asyncio.get_running_loop().time() + min(5, settings.number("shutdown-timeout"))
    while asyncio.get_running_loop().time() < deadline and any(not one.idle for one in connections):
        await asyncio.sleep(0.05)
        for one in list(connections):
            if one.idle:
                one.close()
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
    path = daemon.settings.text("config-file")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        settings, changed = reload_settings(daemon.settings, flags, text, path)
    except (OSError, KistError) as error:
        log.error("the configuration was not reloaded: %s", error)
        return
    daemon.settings = settings
    logging.getLogger().setLevel(10 if settings.flag("debug") else _LEVELS[settings.text("log-level")])
    daemon.events.emit("daemon", "reload", "", {"name": os.uname().nodename, **dict.fromkeys(changed, "")})
    log.info("configuration reloaded: %s", ", ".join(changed) or "nothing changed")


def _write_pidfile(path: str) -> None:
    """Raises KistError when a living process holds it or it cannot be written."""
    try:
        with open(path, encoding="ascii") as file:
            other = int(file.read().strip() or 0)
        if other and other != os.getpid() and _alive(other):
            raise KistError(f"process with PID {other} is still running (pid file {path})")
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
