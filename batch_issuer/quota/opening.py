"""Open the leases that a run's settings choose: of this process, this host, or several hosts."""

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
    """The name under which an organization's slots are stored; does not reveal the API token."""
    who = f"organization {settings.organization}" if settings.organization else settings.api_token.reveal()
    secret = f"{settings.base_url}\n{who}"
    return hashlib.sha256(secret.encode()).hexdigest()[:32]


@asynccontextmanager
async def open_quota(settings: Settings) -> AsyncGenerator[Quota]:
    """The quota of one run.

    Runs share the quota if their base URL and organization are the same (or, without an organization, the API token).
    They should use the same rate.

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
        from .sqlite_leases import SqliteLeases  # noqa: PLC0415 - only some runs need it

        return SqliteLeases(organization(settings), settings.rate)
    try:
        from .redis_leases import RedisLeases  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise SettingsError(
            "sharing the quota through Redis needs the package redis, which is not installed",
            "run pip install redis in the environment of batch-issuer",
        ) from None
    return await RedisLeases.connected(settings.quota, organization(settings), settings.rate)
