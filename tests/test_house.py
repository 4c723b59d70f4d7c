"""The house of the design: one idea a file, imports in one direction, few places with power."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

import batch_issuer

PACKAGE = Path(batch_issuer.__file__).parent

ORDER = {
    "sandbox": ("limiters", "answers", "server"),
    "errors": (),
    "wording": (),
    "locks": (),
    "garbage": (),
    "model": (),
    "hints": (),
    "settings": (
        "durations",
        "secrets",
        "addresses",
        "run_settings",
        "roster_options",
        "kinds",
        "options",
        "resume_command",
        "file",
        "layers",
        "display",
        "selection",
    ),
    "api": ("retry_after", "replies", "client"),
    "quota": (
        "leases",
        "memory_leases",
        "sqlite_database",
        "sqlite_leases",
        "redis_leases",
        "pace",
        "congestion",
        "estimate",
        "quota",
        "opening",
    ),
    "roster": (
        "decoding",
        "columns",
        "identifiers",
        "csv_reader",
        "xlsx",
        "reading",
        "frames",
        "organizations",
        "naming",
        "driver_names",
        "duplicates",
        "roster",
    ),
    "results": (
        "formulas",
        "private_files",
        "validity",
        "auth_columns",
        "csv_writer",
        "xlsx_writer",
        "atomic_file",
        "reading",
        "status",
        "resume",
        "batch",
        "journal",
        "replaceable",
        "destination",
    ),
    "pipeline": (
        "endings",
        "events",
        "backoff",
        "verdicts",
        "attempts",
        "work_queue",
        "circuit_breaker",
        "time_limits",
        "backpressure",
        "token_owners",
        "renewal",
        "usage",
        "run",
    ),
    "jobs": ("records", "running", "job", "outputs", "planning", "checking", "organizations"),
    "reporting": ("exit_codes", "progress", "log_file", "event_log", "summary", "notification"),
    "cli": ("help_texts", "parser", "screen", "manual", "groups", "messages", "loop", "commands", "issuing"),
    "__main__": (),
}
"""Each imports only from those before it, and inside a folder too. A name is a file or a folder."""

FLOORS = {name: floor for floor, name in enumerate(ORDER)} | {
    f"{folder}.{file}": floor for folder, files in ORDER.items() for floor, file in enumerate(files)
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def house_name(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """The modules of the package that a module imports, for types only or for real; of a deeper one its folder."""
    folders = path.relative_to(PACKAGE).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.level > len(folders) + 1:
                pytest.fail(f"{path} imports from outside the package")
            start = [*folders[: len(folders) + 1 - node.level], *(node.module or "").split(".")]
            start = [part for part in start if part]
            names = [[*start, alias.name] for alias in node.names]
            for parts in names:
                is_module = (PACKAGE.joinpath(*parts).with_suffix(".py")).exists() or PACKAGE.joinpath(*parts).is_dir()
                found.add(".".join((parts if is_module else start)[:2]))
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names_ = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not any(name.split(".")[0] == "batch_issuer" for name in names_), f"{path}: import relatively"
    return found - {""}


def imported_houses(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported_modules(path)}


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
    """A new file or folder is put into ``ORDER``, and one that is gone is taken out."""
    places = {".".join(path.relative_to(PACKAGE).with_suffix("").parts[:2]) for path in MODULES}
    found = {place for place in places if not place.endswith("__init__")}
    assert found == {name if not file else f"{name}.{file}" for name, files in ORDER.items() for file in files or [""]}


def test_the_package_lists_its_houses_in_order() -> None:
    listed = re.findall(r"^- ((?:``\w+``(?:, )?)+):", batch_issuer.__doc__ or "", re.MULTILINE)
    assert re.findall(r"\w+", " ".join(listed)) == [name for name in ORDER if name != "__main__"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    """A folder imports only from those before it, and a file of a folder only from the files before it."""
    if path == PACKAGE / "__init__.py":
        return
    here = path.relative_to(PACKAGE).with_suffix("").parts
    for imported in imported_modules(path):
        folder, _, file = imported.partition(".")
        if folder != here[0]:
            assert FLOORS[folder] < FLOORS[here[0]], f"{path} imports {imported}, which is above it"
        elif file and here[1] not in ("__init__", file):
            assert FLOORS[imported] < FLOORS[f"{here[0]}.{here[1]}"], f"{path} imports {imported}, which is above it"


def test_sandbox_imports_nothing_of_ours() -> None:
    for path in (PACKAGE / "sandbox").glob("*.py"):
        assert imported_houses(path) <= {"sandbox"}


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


STORES = {"sqlite3": "sqlite_database.py", "filelock": "locks.py", "redis": "redis_leases.py"}


def test_each_store_of_leases_is_known_to_one_file() -> None:
    known = {store: {path.name for path in MODULES if store in modules_imported(path)} for store in STORES}
    assert known == {store: {name} for store, name in STORES.items()}


@pytest.mark.parametrize("name", ["leases", "pace", "congestion", "estimate"])
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
