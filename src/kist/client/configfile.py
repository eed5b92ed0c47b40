"""Docker's configuration file of the command, `config.json`: read, and changed without losing what others wrote."""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
from typing import Any

from kist.model.errors import KistError


class ConfigFile:
    """`config.json` in a directory; an empty one when there is none. A broken one is told of, and never written."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.path = f"{directory}/config.json"
        self._broken = ""
        self._values = self._read()

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.path, encoding="utf-8") as file:
                found = json.load(file)
            if not isinstance(found, dict):
                raise ValueError("json: this is not an object")
            if not isinstance(found.get("currentContext", ""), str):
                raise ValueError("json: currentContext is not a string")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError) as error:
            self._broken = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            print(f"WARNING: Error parsing config file ({self.path}): {self._broken}", file=sys.stderr)
            return {}
        return found

    def get(self, key: str) -> Any:
        """A value by its key; None without one."""
        return self._values.get(key)

    @property
    def current_context(self) -> str:
        """ "" is the default context."""
        return str(self._values.get("currentContext", ""))

    def set_current_context(self, name: str) -> None:
        """Raises KistError, OSError."""
        if name == self.current_context:
            return
        if self._broken:
            raise KistError(f"{self.path} cannot be parsed and is left as it is: {self._broken}")
        if name:
            self._values["currentContext"] = name
        else:
            self._values.pop("currentContext", None)
        self._write()

    def _write(self) -> None:
        """By rename, through a symbolic link, with the mode and owner it had."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        target = os.path.realpath(self.path)
        descriptor, temporary = tempfile.mkstemp(prefix="config.json", dir=os.path.dirname(target))
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"auths": {}, **self._values}, file, indent="\t", ensure_ascii=False)
                if os.path.exists(target):
                    before = os.stat(target)
                    os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
