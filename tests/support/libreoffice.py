"""LibreOffice without a screen: converts files as a person would save them under another format."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 120  # seconds


def convert(source: Path, told: str, folder: Path, *, opened_as: str = "") -> Path:
    """Open a file and save it into a folder.

    Args:
        source: the file.
        told: the format, as ``--convert-to`` has it.
        folder: made if need be.
        opened_as: the filter to open it with, if not the one that LibreOffice finds itself.
    """
    program = shutil.which("soffice")
    assert program, "LibreOffice is missing"
    with tempfile.TemporaryDirectory() as profile:
        command = [program, "--headless", f"-env:UserInstallation=file://{profile}"]
        command += [f"--infilter={opened_as}"] if opened_as else []
        ran = subprocess.run(
            [*command, "--convert-to", told, "--outdir", str(folder), str(source)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={"HOME": profile, "PATH": "/usr/bin:/bin"},
            check=False,
        )
    made = folder / f"{source.stem}.{told.partition(':')[0]}"
    assert made.exists(), ran.stdout + ran.stderr
    return made
