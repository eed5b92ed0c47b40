"""A volume plug-in for tests: an HTTP server on a unix socket or a TCP port whose volumes are directories."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socketserver
import threading
import time
from typing import Any


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class _TcpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads, allow_reuse_address = True, True


class VolumePlugin:
    """`calls` are (method, arguments) as they came. `replies` override what a method answers: a JSON value, bytes, an
    exception (the connection breaks off), or a function of the arguments.
    """

    def __init__(self, root: str, socket: str = "") -> None:
        self.root, self.socket = root, socket
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.replies: dict[str, Any] = {}
        self.status = 200
        self.delay = 0.0
        self.volumes: dict[str, dict[str, str]] = {}
        self.mounted: dict[str, set[str]] = {}
        self._server: socketserver.BaseServer | None = None

    def start(self) -> None:
        plugin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                plugin.answer(self)

            def address_string(self) -> str:
                return "engine"

            def log_message(self, *_: object) -> None:
                pass

        if self.socket:
            if os.path.exists(self.socket):
                os.unlink(self.socket)
            self._server = _UnixServer(self.socket, Handler)
        else:
            self._server = _TcpServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        assert isinstance(self._server, _TcpServer)
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """The socket's file stays, as after a crash."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def of(self, method: str) -> list[dict[str, Any]]:
        return [arguments for name, arguments in self.calls if name == method]

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        method = request.path.removeprefix("/")
        arguments = json.loads(body) if body else {}
        self.calls.append((method, arguments))
        time.sleep(self.delay)
        reply = self.replies.get(method, getattr(self, f"_{method.replace('.', '_').lower()}", None))
        if isinstance(reply, Exception):
            request.close_connection = True
            return
        status = self.status
        if callable(reply):
            reply = reply(arguments)
        if reply is None:
            status, reply = 404, b"404 page not found"
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        with contextlib.suppress(BrokenPipeError):  # it knows enough
            request.wfile.write(data)

    # --- the protocol ---

    def _plugin_activate(self, _: dict[str, Any]) -> Any:
        return {"Implements": ["VolumeDriver"]}

    def _volumedriver_create(self, asked: dict[str, Any]) -> Any:
        os.makedirs(f"{self.root}/{asked['Name']}", exist_ok=True)
        self.volumes[asked["Name"]] = asked.get("Opts") or {}
        return {"Err": ""}

    def _volumedriver_remove(self, asked: dict[str, Any]) -> Any:
        self.volumes.pop(asked["Name"], None)
        return {}

    def _shown(self, name: str) -> dict[str, Any]:
        where = f"{self.root}/{name}" if self.mounted.get(name) else ""
        created = "2026-01-02T03:04:05Z"
        return {"Name": name, "Mountpoint": where, "CreatedAt": created, "Status": {"state": "fine", "n": 3}}

    def _volumedriver_get(self, asked: dict[str, Any]) -> Any:
        if asked["Name"] not in self.volumes:
            return {"Err": "there is no such volume"}
        return {"Volume": self._shown(asked["Name"]), "Err": ""}

    def _volumedriver_list(self, _: dict[str, Any]) -> Any:
        return {"Volumes": [self._shown(name) for name in self.volumes]}

    def _volumedriver_path(self, asked: dict[str, Any]) -> Any:
        return {"Mountpoint": f"{self.root}/{asked['Name']}"}

    def _volumedriver_mount(self, asked: dict[str, Any]) -> Any:
        self.mounted.setdefault(asked["Name"], set()).add(asked["ID"])
        return {"Mountpoint": f"{self.root}/{asked['Name']}"}

    def _volumedriver_unmount(self, asked: dict[str, Any]) -> Any:
        self.mounted.get(asked["Name"], set()).discard(asked["ID"])
        return {}

    def _volumedriver_capabilities(self, _: dict[str, Any]) -> Any:
        return {"Capabilities": {"Scope": "global"}}
