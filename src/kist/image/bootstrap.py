"""Base images without a registry: straight from the distribution's package archive, by apt's own configuration.

busybox comes from the package busybox-static, unpacked here; Debian is made by mmdebstrap or debootstrap, two of the
few programs this engine ever starts.
"""

from __future__ import annotations

import asyncio
import glob
import io
import os
import re
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Callable
from typing import BinaryIO

from kist.image.compression import decompressed
from kist.model.config import ContainerConfig
from kist.model.errors import InvalidParameter, KistError

Say = Callable[[str], None]
_PACKAGE = "busybox-static"
_UNKNOWN = (
    "Unable to locate package", "has no installation candidate", "Can't find a source to download", "404  Not Found",
)  # fmt: skip
_SUITE = re.compile(r"^[a-z][a-z0-9.+-]*$")
_DIRECTORIES = ("bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "usr/bin", "var", "var/tmp")
_PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\n"
    "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "nobody:x:65534:65534:nobody:/:/bin/false\n"
)
_GROUP = "root:x:0:\ndaemon:x:1:\nwheel:x:10:root\nnobody:x:65534:\n"


class Bootstrapped:
    """A root tree as a tar in a temporary file, and what its image runs by default."""

    def __init__(self, file: BinaryIO, config: ContainerConfig, name: str) -> None:
        self.file, self.config, self.name = file, config, name


async def bootstrap(distribution: str, say: Say) -> Bootstrapped:
    """`busybox` or `debian[:SUITE]`. Raises InvalidParameter for others, KistError when a tool is missing or fails."""
    name, _, suite = distribution.partition(":")
    if name == "busybox" and not suite:
        return await _busybox(say)
    if name == "debian" and (not suite or _SUITE.match(suite)):
        return await _debian(suite or "stable", say)
    raise InvalidParameter(f"cannot bootstrap {distribution!r}: use busybox or debian[:SUITE]")


async def _run(arguments: list[str], directory: str, output: int = -1) -> str:
    """Runs one of the named programs; its errors as text. Raises KistError when it fails.

    subprocess starts it by vfork(2) as posix_spawn(3) would, so kistd's memory is not copied, and can also set the
    working directory.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output if output >= 0 else asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        )
    except FileNotFoundError as error:
        raise KistError(f"{arguments[0]} is not installed") from error
    try:
        out, errors = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    text = errors.decode("utf-8", "replace").strip()
    if process.returncode:
        last = "\n".join(text.splitlines()[-5:])
        raise KistError(f"{arguments[0]} failed with status {process.returncode}: {last}")
    return (out or b"").decode("utf-8", "replace")


async def _busybox(say: Say) -> Bootstrapped:
    with tempfile.TemporaryDirectory(prefix="kist-bootstrap-") as directory:
        os.chmod(directory, 0o755)  # apt fetches as another user
        say(f"Downloading {_PACKAGE}")
        try:
            await _run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", "--", _PACKAGE], directory)
        except KistError as error:
            if not _is_unknown(error.message):
                raise
            raise KistError(f"{error.message}\nRun apt-get update first: apt knows no {_PACKAGE}") from error
        packages = glob.glob(f"{directory}/{_PACKAGE}_*.deb")
        if len(packages) != 1:
            raise KistError(f"apt-get downloaded no {_PACKAGE} package")
        say("Unpacking")
        binary = await asyncio.to_thread(_binary_from_package, packages[0])
        program = f"{directory}/busybox"
        with open(program, "wb") as file:
            file.write(binary)
        os.chmod(program, 0o755)
        applets = (await _run([program, "--list"], directory)).split()
    target = tempfile.TemporaryFile()
    await asyncio.to_thread(_busybox_root, target, binary, applets)
    target.seek(0)
    config = ContainerConfig(cmd=["sh"], env=["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])
    return Bootstrapped(target, config, "busybox:latest")


def _is_unknown(told: str) -> bool:
    """Whether apt-get knows of no such package, or of one that the archive has replaced since: its lists are old."""
    return any(words in told for words in _UNKNOWN)


def _binary_from_package(path: str) -> bytes:
    """The busybox program out of a .deb: an ar archive with data.tar in it (deb(5))."""
    with open(path, "rb") as package:
        data = _ar_member(package, "data.tar")
    with tarfile.open(fileobj=decompressed(io.BytesIO(data)), mode="r|") as archive:
        for member in archive:
            if member.isreg() and member.name.endswith("bin/busybox"):
                reader = archive.extractfile(member)
                assert reader is not None
                return reader.read()
    raise KistError(f"{os.path.basename(path)} holds no busybox program")


def _ar_member(package: BinaryIO, prefix: str) -> bytes:
    if package.read(8) != b"!<arch>\n":
        raise KistError("the package is not an ar archive")
    while len(header := package.read(60)) == 60:
        size = int(header[48:58])
        data = package.read(size + size % 2)[:size]
        if header[:16].decode("ascii", "replace").startswith(prefix):
            return data
    raise KistError(f"the package holds no {prefix}")


def _busybox_root(target: BinaryIO, binary: bytes, applets: list[str]) -> None:
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in _DIRECTORIES:
            mode = 0o1777 if name.endswith("tmp") else 0o700 if name == "root" else 0o755
            _add(archive, name, tarfile.DIRTYPE, mode)
        _add(archive, "bin/busybox", tarfile.REGTYPE, 0o755, binary)
        for applet in sorted(set(applets) - {"busybox"}):
            _add(archive, f"bin/{applet}", tarfile.LNKTYPE, 0o755, link="bin/busybox")
        _add(archive, "usr/bin/env", tarfile.LNKTYPE, 0o755, link="bin/busybox")
        for name, text in (("passwd", _PASSWD), ("group", _GROUP), ("nsswitch.conf", "hosts: files dns\n")):
            _add(archive, f"etc/{name}", tarfile.REGTYPE, 0o644, text.encode())


def _add(archive: tarfile.TarFile, name: str, kind: bytes, mode: int, data: bytes = b"", link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname = kind, mode, len(data), link
    archive.addfile(info, io.BytesIO(data))


async def _debian(suite: str, say: Say) -> Bootstrapped:
    tool = next((name for name in ("mmdebstrap", "debootstrap") if shutil.which(name)), "")
    if not tool:
        raise KistError(
            "neither mmdebstrap nor debootstrap is installed: install one, for example apt-get install mmdebstrap"
        )
    say(f"Running {tool} for {suite}")
    target = tempfile.TemporaryFile()
    with tempfile.TemporaryDirectory(prefix="kist-bootstrap-") as directory:
        os.chmod(directory, 0o755)
        if tool == "mmdebstrap":
            arguments = [tool, "--variant=minbase", "--mode=root", "--format=tar", "--", suite, "-"]
            await _run(arguments, directory, target.fileno())
        else:
            await _run([tool, "--variant=minbase", suite, f"{directory}/root"], directory)
            await asyncio.to_thread(_pack, f"{directory}/root", target)
    target.seek(0)
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return Bootstrapped(target, ContainerConfig(cmd=["bash"], env=[path]), f"debian:{suite}")


def _pack(root: str, target: BinaryIO) -> None:
    def without_devices(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if stat.S_IFMT(info.mode) in (stat.S_IFCHR, stat.S_IFBLK) or info.isdev() else info

    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(root, arcname=".", filter=without_devices)
