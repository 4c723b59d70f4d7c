"""Settings files for tests, and the messages about them, which must not show a secret."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from batch_issuer.cli.parser import flags_of, make_parser
from batch_issuer.errors import SettingsError
from batch_issuer.settings.display import report_lines, run_lines
from batch_issuer.settings.file import read_settings_file
from batch_issuer.settings.layers import Layers
from batch_issuer.settings.run_settings import Settings
from batch_issuer.settings.secrets import Secret

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN = "hunter2hunter2"
"""A secret that must never be shown."""


def toml(value: Any) -> str:
    """A value in TOML syntax."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case dict():
            return f"{{{', '.join(f'{toml(key)} = {toml(each)}' for key, each in value.items())}}}"
        case list():
            return f"[{', '.join(map(toml, value))}]"
    return str(value)


def document(content: dict[str, Any]) -> str:
    return "".join(f"{toml(key)} = {toml(value)}\n" for key, value in content.items())


def written(folder: Path, text: str | dict[str, Any], name: str = "b.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else document(text), encoding="utf-8")
    return path


def settings(**changes: Any) -> Settings:
    return Settings(**{"api_token": Secret("token"), **changes})


def refusal(**changes: Any) -> SettingsError:
    """The error of `settings` with these changes."""
    with pytest.raises(SettingsError) as caught:
        settings(**changes)
    assert caught.value.hint
    return caught.value


def text_of(error: SettingsError) -> str:
    """Message and hint of an error, after checking that each is one line and shows no secret."""
    assert error.hint
    assert error.message.isprintable()
    assert error.hint.isprintable()
    assert HIDDEN not in "".join(traceback.format_exception(error)) + error.hint
    return f"{error.message} {error.hint}"


def layers_of(
    file: Path | None, *flags: str, environ: dict[str, str] | None = None, org: str = "", command: str = "issue"
) -> Layers:
    """The settings of a file and of flags as a person types them."""
    options = make_parser().parse_args([command, *flags])
    return Layers(read_settings_file(file), org, flags=flags_of(options), environ=environ or {})


def shown(layers: Layers) -> dict[str, tuple[str, str]]:
    """Of each setting what ``config`` says: value and source."""
    return {name: (value, source) for name, value, source in (*run_lines(layers), *report_lines(layers))}
