"""Imports point down only. The order of the layers is the one in `docs/architecture.md`, from the ground up.

A package may import itself and packages of lower layers; packages on one layer don't know each other.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "lockstep"

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"base"}),
    frozenset({"wire", "log"}),
    frozenset({"ledger"}),
    frozenset({"venue"}),
    frozenset({"pool", "consensus", "sync", "gossip"}),
    frozenset({"node"}),
    frozenset({"runtime", "simulator"}),
    frozenset({"gateway", "monitor"}),
    frozenset({"market", "chaos"}),
    frozenset({"dashboard"}),
    frozenset({"cli"}),
)
LAYER_OF = {package: number for number, layer in enumerate(LAYERS) for package in layer}


def imported_packages(source: str, package: str) -> Iterator[tuple[int, str]]:
    """(line, lockstep package) for every import in `source`, wherever it stands in the file."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"line {node.lineno}: a relative import in {package}; write the full name")
        elif isinstance(node, ast.ImportFrom) and node.module == "lockstep":
            names = [f"lockstep.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            parts = name.split(".")
            if parts[0] == "lockstep" and len(parts) > 1 and not parts[1].startswith("__"):
                yield node.lineno, parts[1]


def violations(source: str, package: str) -> list[str]:
    """What is wrong with the imports of one file of `package`."""
    wrong = []
    for line, other in imported_packages(source, package):
        if other == package:
            continue
        if other not in LAYER_OF:
            wrong.append(f"line {line}: {other} has no layer")
        elif LAYER_OF[other] >= LAYER_OF[package]:
            wrong.append(f"line {line}: {package} imports {other}, which is not below it")
    return wrong


def files() -> list[Path]:
    """Every source file inside a package."""
    return sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    package = path.relative_to(SOURCE).parts[0]
    assert package in LAYER_OF, f"{package} has no layer: give it one in LAYERS"
    assert violations(path.read_text(), package) == []


def test_every_package_says_its_job() -> None:
    for package in {path.relative_to(SOURCE).parts[0] for path in files()}:
        tree = ast.parse((SOURCE / package / "__init__.py").read_text())
        assert ast.get_docstring(tree), f"{package}/__init__.py says nothing"


def test_an_upward_import_is_found() -> None:
    assert violations("from lockstep.node import effects", "venue") == [
        "line 1: venue imports node, which is not below it"
    ]
    assert violations("def f():\n    import lockstep.pool.pool", "consensus") == [
        "line 2: consensus imports pool, which is not below it"
    ]
    assert violations("from lockstep import cli", "base") == ["line 1: base imports cli, which is not below it"]
    assert violations("from lockstep.base import digest\nfrom lockstep.wire import bundle", "wire") == []
