"""What an install brings is what the package needs: no dependency for nothing, no import without one."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from test_house import MODULES, modules_imported

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS_OF_USERS = ("redis", "xlsx")


def names(requirements: list[str]) -> set[str]:
    """The names of distributions in requirements, in one spelling."""
    return {plain(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_distributions() -> set[str]:
    """The distributions of all modules from elsewhere that the package imports; the module's name, if there is none."""
    modules = {name for path in MODULES for name in modules_imported(path)} - sys.stdlib_module_names
    homes = packages_distributions()
    return {plain(home) for module in modules for home in homes.get(module, [module])}


def test_every_python_from_the_oldest_on_is_named_once() -> None:
    """What an index shows is what `requires-python` allows and CI's range spans."""
    named = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if "Python :: 3." in one]
    oldest = int(PROJECT["requires-python"].removeprefix(">=3."))
    assert named == [f"3.{minor}" for minor in range(oldest, oldest + len(named))]


def test_every_dependency_is_imported() -> None:
    assert names(PROJECT["dependencies"]) <= imported_distributions()


def test_every_import_is_of_a_dependency_or_an_extra() -> None:
    extras = names([one for extra in EXTRAS_OF_USERS for one in PROJECT["optional-dependencies"][extra]])
    assert imported_distributions() == names(PROJECT["dependencies"]) | extras
