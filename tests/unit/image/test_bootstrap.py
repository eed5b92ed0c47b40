"""Base images from the distribution: what is said when apt has no list of packages yet, as in a fresh image."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from kist.image.bootstrap import bootstrap
from kist.model.errors import KistError


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt-get here")
def test_without_lists_apt_wants_an_update_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lists" / "partial").mkdir(parents=True)
    (tmp_path / "archives" / "partial").mkdir(parents=True)
    config = tmp_path / "apt.conf"
    config.write_text(f'Dir::State::lists "{tmp_path}/lists";\nDir::State::status "/dev/null";\n'
                      f'Dir::Cache "{tmp_path}";\n')  # fmt: skip
    monkeypatch.setenv("APT_CONFIG", str(config))
    with pytest.raises(KistError) as caught:
        asyncio.run(bootstrap("busybox", lambda _: None))
    first, *_, last = caught.value.message.splitlines()
    assert first == "apt-get failed with status 100: E: Unable to locate package busybox-static"
    assert last == "Run apt-get update first: apt knows no busybox-static"
