"""Imports point downward only, along the edges written here (docs/ARCHITECTURE.md shows the picture)."""

from __future__ import annotations

import ast
from pathlib import Path

SRC = Path(__file__).resolve().parents[2] / "src" / "kist"

# package -> packages of kist it may import. An import that is not listed is a defect of the design or of this table.
EDGES: dict[str, set[str]] = {
    "model": set(),
    "wire": {"model"},
    "kernel": {"model"},
    "settings": {"model"},
    "store": {"model", "kernel"},
    "snapshot": {"model", "kernel"},
    "logs": {"model", "kernel"},
    "shipper": {"model", "kernel", "logs"},
    "image": {"model", "kernel", "store", "snapshot"},
    "network": {"model", "kernel", "store"},
    "volume": {"model", "kernel", "store", "snapshot"},
    "monitor": {"model", "kernel", "logs"},
    "runtime": {"model", "kernel", "logs", "monitor"},
    "lowlevel": {"model", "kernel", "monitor", "runtime"},
    "registry": {"model", "store", "image"},
    "container": {"model", "kernel", "store", "snapshot", "logs", "shipper", "image", "network", "volume", "runtime"},
    "http": {"model"},
    "api": {"model", "wire", "http"},
    "client": {"model"},
    "cli": {"model", "client"},
    # The one composition root may import every room.
    "daemon": {
        "model", "settings", "wire", "kernel", "store", "snapshot", "logs", "image", "network", "volume",
        "monitor", "runtime", "container", "http", "api",
    },
}  # fmt: skip

# Only the monitor's own half of a room may be imported by what runs outside kistd.
MONITOR_MAY_IMPORT_FROM_LOGS = {"kist.logs.writer"}

# Functions of the command import late because each import is start-up time that a user feels.
LATE_IMPORTS_ALLOWED_IN = {"cli", "lowlevel"}


def _room(path: Path) -> str:
    relative = path.relative_to(SRC)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def _imports(tree: ast.AST) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import on line {node.lineno}"
            module = node.module or ""
            found += [(f"{module}.{alias.name}" if module == "kist" else module, node.lineno) for alias in node.names]
    return found


def _files() -> list[Path]:
    return [path for path in sorted(SRC.rglob("*.py")) if path != SRC / "__init__.py" and path != SRC / "__main__.py"]


def test_every_import_is_an_edge_of_the_table() -> None:
    wrong = []
    for path in _files():
        room = _room(path)
        for name, line in _imports(ast.parse(path.read_text())):
            parts = name.split(".")
            if parts[0] != "kist" or len(parts) < 2 or parts[1] in (room, "__version__"):
                continue
            if parts[1] not in EDGES.get(room, set()):
                wrong.append(f"{path.relative_to(SRC)}:{line}: {room} may not import kist.{parts[1]}")
    assert not wrong, "\n".join(wrong)


def test_the_monitor_imports_only_the_writers_of_logs() -> None:
    wrong = []
    for path in (SRC / "monitor").glob("*.py"):
        for name, line in _imports(ast.parse(path.read_text())):
            if name.startswith("kist.logs") and name not in MONITOR_MAY_IMPORT_FROM_LOGS:
                wrong.append(f"{path.name}:{line}: {name}")
    assert not wrong, "\n".join(wrong)


def test_the_table_has_no_cycle() -> None:
    done: set[str] = set()

    def visit(room: str, trail: tuple[str, ...]) -> None:
        assert room not in trail, " -> ".join((*trail, room))
        if room in done:
            return
        for below in sorted(EDGES[room]):
            visit(below, (*trail, room))
        done.add(room)

    for room in EDGES:
        visit(room, ())


def test_modules_do_not_import_each_other_in_circles() -> None:
    graph: dict[str, set[str]] = {}
    for path in _files():
        name = "kist." + ".".join(path.relative_to(SRC).with_suffix("").parts)
        graph[name] = {target for target, _ in _imports(ast.parse(path.read_text())) if target.startswith("kist.")}
    state: dict[str, int] = {}

    def visit(module: str, trail: list[str]) -> None:
        assert state.get(module) != 1, " -> ".join([*trail, module])
        if state.get(module) == 2:
            return
        state[module] = 1
        for target in sorted(graph.get(module, ())):
            if target in graph:
                visit(target, [*trail, module])
        state[module] = 2

    for module in graph:
        visit(module, [])


def test_no_import_hides_in_a_function() -> None:
    wrong = []
    for path in _files():
        if _room(path) in LATE_IMPORTS_ALLOWED_IN:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                wrong += [
                    f"{path.relative_to(SRC)}:{inner.lineno}"
                    for inner in ast.walk(node)
                    if isinstance(inner, ast.Import | ast.ImportFrom)
                ]
    assert not wrong, "\n".join(sorted(set(wrong)))
