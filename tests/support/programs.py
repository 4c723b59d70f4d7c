"""Real servers and programs that some tests run against."""

from __future__ import annotations

import os
import shutil

import pytest


def needed(binary: str) -> str:
    """The path of a program. Without it the test is skipped, or fails if REQUIRE_SERVERS is set, as in CI."""
    path = shutil.which(binary, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if path is not None:
        return path
    message = f"{binary} is not installed (Debian: apt-get install redis-server nginx haproxy libreoffice-calc systemd)"
    if os.environ.get("REQUIRE_SERVERS"):
        pytest.fail(message)
    pytest.skip(message)
