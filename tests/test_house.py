"""The house of the design: one idea a file, imports in one direction, few places with power."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import batch_issuer

PACKAGE = Path(batch_issuer.__file__).parent

ORDER = (
    "sandbox",
    "errors",
    "locks",
    "model",
    "events",
    "hints",
    "roster_options",
    "roster",
    "quota",
    "retry",
    "client",
    "results",
    "progress",
    "event_log",
    "row",
    "circuit",
    "waiting",
    "timers",
    "setbacks",
    "holders",
    "lifetimes",
    "tally",
    "runner",
    "times",
    "references",
    "settings_file",
    "settings",
    "job",
    "report",
    "cli",
    "__main__",
)
"""Each imports only from those before it. A name is a file or a folder."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def house_name(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_houses(path: Path) -> set[str]:
    """The names of ``ORDER`` that a module imports, for types only or for real."""
    depth = len(path.relative_to(PACKAGE).parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            found.update([node.module.split(".")[0]] if node.module else [alias.name for alias in node.names])
        elif isinstance(node, ast.ImportFrom) and node.level > depth:
            pytest.fail(f"{path} imports from outside the package")
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not any(name.split(".")[0] == "batch_issuer" for name in names), f"{path}: import relatively"
    return found - {"__version__"}


def modules_imported(path: Path) -> set[str]:
    """The top names of all modules from elsewhere, wherever in the file they are imported."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def names_used(path: Path) -> set[str]:
    """Dotted names in a module, and the modules it imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(node.func.id)
    return found


def test_every_module_has_its_place() -> None:
    assert {house_name(path) for path in MODULES} == {*ORDER, "__init__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_up_only(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        return
    name = house_name(path)
    inside = name if (PACKAGE / name).is_dir() else None
    for imported in imported_houses(path):
        assert imported in ORDER, f"{path} imports {imported}, which has no place"
        assert ORDER.index(imported) < ORDER.index(name) or imported == inside


def test_sandbox_imports_nothing_of_ours() -> None:
    for path in (PACKAGE / "sandbox").glob("*.py"):
        assert imported_houses(path) == set()


def test_only_the_command_line_prints_or_reads_the_environment() -> None:
    for path in MODULES:
        if house_name(path) not in ("cli", "__main__"):
            used = names_used(path)
            assert not used & {"os.environ", "os.getenv", "sys.stdout", "sys.stderr", "sys.stdin", "sys.argv", "input"}
            assert "print" not in used or path.name == "progress.py"  # to the stream it was handed


def test_only_the_client_knows_the_http_client() -> None:
    for path in MODULES:
        if path.name != "client.py":
            assert not any(name.startswith("aiohttp") and "web" not in name for name in names_used(path)), path


STORES = {"sqlite3": "on_host.py", "filelock": "locks.py", "redis": "on_hosts.py"}


def test_each_store_of_leases_is_known_to_one_file() -> None:
    known = {store: {path.name for path in MODULES if store in modules_imported(path)} for store in STORES}
    assert known == {store: {name} for store, name in STORES.items()}


@pytest.mark.parametrize("name", ["leases", "control"])
def test_the_rules_of_the_quota_are_pure(name: str) -> None:
    """Neither clock nor loop nor chance: the time is an argument."""
    assert not modules_imported(PACKAGE / "quota" / f"{name}.py") & {"asyncio", "time", "random", "datetime", "os"}


def test_public_names_are_importable_and_listed_once() -> None:
    homes = {name: home for home, names in batch_issuer._HOMES.items() for name in names}
    assert sorted(homes) == sorted(batch_issuer.__all__)
    for name, home in homes.items():
        assert getattr(batch_issuer, name) is getattr(importlib.import_module(f"batch_issuer.{home}"), name)
    with pytest.raises(AttributeError):
        _ = batch_issuer.nothing_of_this_name  # type: ignore[attr-defined]
