"""Which leases a run's settings mean: those of this process, of this host, or of several hosts."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..errors import SettingsError
from .memory_leases import Guard, MemoryLeases
from .quota import Quota

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ..settings.run_settings import Settings
    from .leases import Leases

_guards: dict[str, Guard] = {}


def organization(settings: Settings) -> str:
    """The name under which an organization's slots are kept; reveals nothing of the API token."""
    who = f"organization {settings.organization}" if settings.organization else settings.api_token.reveal()
    secret = f"{settings.base_url}\n{who}"
    return hashlib.sha256(secret.encode()).hexdigest()[:32]


@asynccontextmanager
async def open_quota(settings: Settings) -> AsyncGenerator[Quota]:
    """The quota of one run.

    Runs belong to the same organization if base URL and organization (or, where none is named, API token) are the same;
    they should agree on the rate.

    Raises:
        SettingsError: the Redis server cannot be used, or the extra ``redis`` is not installed.
    """
    shared = await _shared_leases(settings)
    own = MemoryLeases(settings.rate, _guards.setdefault(organization(settings), Guard()))
    quota = Quota(own, shared, burst=settings.burst, concurrency=settings.concurrency)
    try:
        yield quota
    finally:
        await quota.close()


async def _shared_leases(settings: Settings) -> Leases | None:
    if isinstance(settings.quota, str):
        if settings.quota == "process":
            return None
        from .sqlite_leases import SqliteLeases  # noqa: PLC0415 - not needed by every run

        return SqliteLeases(organization(settings), settings.rate)
    try:
        from .redis_leases import RedisLeases  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise SettingsError(
            "a quota in Redis needs the extra redis, which is not installed",
            "install the package redis where batch-issuer is installed: pip install redis",
        ) from None
    return await RedisLeases.connected(settings.quota, organization(settings), settings.rate)
