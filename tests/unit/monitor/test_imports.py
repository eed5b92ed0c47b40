"""What the zygote and the monitors carry in memory: the modules they may have, and none of their own later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3] / "src"
# Of kist: the kernel room, the log writer, the monitor room; nothing that needs an installed package.
ALLOWED = {"kist", "kist.kernel", "kist.logs", "kist.logs.writer", "kist.monitor", "kist.model"}
HEAVY = {"asyncio", "typing_extensions", "msgspec", "dataclasses", "inspect", "http", "email", "urllib", "logging",
         "subprocess", "threading", "tempfile", "ssl", "sqlite3", "argparse"}  # fmt: skip


def loaded() -> set[str]:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import kist.monitor.zygote; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_only_the_monitors_rooms_are_imported() -> None:
    ours = {name for name in loaded() if name.startswith("kist")}
    strangers = {
        name for name in ours if name not in ALLOWED and not name.startswith(("kist.kernel.", "kist.monitor."))
    }
    assert not strangers


def test_nothing_heavy_is_imported() -> None:
    assert not HEAVY & loaded()
