"""Headless LibreOffice, to convert files as a user would save them in another format."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 120  # seconds


def convert(source: Path, target: str, folder: Path, *, opened_as: str = "") -> Path:
    """Open a file and save it into a folder.

    Args:
        source: the file.
        target: the format, as for ``--convert-to``.
        folder: created if necessary.
        opened_as: the filter to open the file with, if not the one that LibreOffice chooses.
    """
    program = shutil.which("soffice")
    assert program, "LibreOffice is missing"
    with tempfile.TemporaryDirectory() as profile:
        command = [program, "--headless", f"-env:UserInstallation=file://{profile}"]
        command += [f"--infilter={opened_as}"] if opened_as else []
        ran = subprocess.run(
            [*command, "--convert-to", target, "--outdir", str(folder), str(source)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={"HOME": profile, "PATH": "/usr/bin:/bin"},
            check=False,
        )
    converted = folder / f"{source.stem}.{target.partition(':')[0]}"
    assert converted.exists(), ran.stdout + ran.stderr
    return converted
