"""Overlays by mount(2), for kernels whose mount API does not take them layer by layer (`lowerdir+`, since Linux 6.8).

There the layers are one text, and fsconfig(2) takes none over 255 bytes while mount(2) takes a page. Paths relative to
the directory that all have in common make 500 layers fit into it.
"""

from __future__ import annotations

import functools
import os
import re

from kist.kernel import mount

_DIRECTORIES = ("lowerdir", "upperdir", "workdir")


@functools.cache
def takes_layers() -> bool:
    """Whether `mount.detached_mount` can do it on this kernel."""
    numbers = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return numbers is None or (int(numbers[1]), int(numbers[2])) >= (6, 8)


def mount_at(target: str, source: str, options: list[str], flags: int = 0) -> None:
    """Mounts an overlay at an absolute path, `flags` MS_*. Changes the working directory. Raises OSError."""
    common, words = relative(options)
    os.chdir(common)
    mount.mount(source, target, "overlay", flags, ",".join(words))


def relative(options: list[str]) -> tuple[str, list[str]]:
    """The directory that all directories of the options are in, and the options with paths from there."""
    pairs = [(key, value) for key, _, value in (option.partition("=") for option in options)]
    places = [place for key, value in pairs if key in _DIRECTORIES for place in value.split(":")]
    common = os.path.commonpath([os.path.dirname(place) for place in places])
    words = []
    for key, value in pairs:
        if key in _DIRECTORIES:
            value = ":".join(os.path.relpath(place, common) for place in value.split(":"))
        words.append(f"{key}={value}" if value else key)
    return common, words
