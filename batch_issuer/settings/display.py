"""The settings that apply, as ``config`` shows them: name, value, source; secrets as ``set`` or ``not set``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .addresses import address_for_people, proxy_for
from .kinds import for_people
from .layers import DEFAULT
from .options import OPTIONS
from .secrets import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .layers import Layers
    from .options import Option


def run_lines(layers: Layers) -> Iterator[tuple[str, str, str]]:
    """The settings of a run, those of its roster among them."""
    yield from _lines(layers, "run", "organization" if layers.organization else "defaults", "defaults", "roster")
    proxy = proxy_for(str(layers.base_url().value), layers.environ)
    yield "proxy", "set" if proxy else "not set", "HTTPS_PROXY, NO_PROXY" if proxy else DEFAULT
    ca_file = layers.environ.get("SSL_CERT_FILE")
    yield "certificates", ca_file or "the system's", "SSL_CERT_FILE" if ca_file else DEFAULT


def report_lines(layers: Layers) -> Iterator[tuple[str, str, str]]:
    """The settings of log, summary and notification."""
    return _lines(layers, "report")


def _lines(layers: Layers, *sections: str) -> Iterator[tuple[str, str, str]]:
    for option in OPTIONS.values():
        if option.section in sections and option.name == option.rivals[0]:
            yield from _option_lines(layers, option)


def _option_lines(layers: Layers, option: Option) -> Iterator[tuple[str, str, str]]:
    """One option; of rivals together, by the first of them."""
    found = layers.find(option.name) if len(option.rivals) == 1 else None
    match option.name:
        case "region":
            found = layers.base_url()
            yield "base_url", address_for_people(found.value), found.source
        case "api_token":
            reference, source = layers.api_token_reference()
            is_set = reference is not None and reference.is_set(layers.environ)
            yield "API token", "set" if is_set else "not set", f"{source}: {reference}" if reference else source
        case "notify":
            notify, source = layers.notify_reference()
            is_set = notify.is_set(layers.environ) if isinstance(notify, Reference) else bool(notify)
            yield "notify", "set" if is_set else "not set", source
        case "map" if columns := layers.columns():
            for kind, (column, source) in columns.items():
                yield f"map {kind.name.lower()}", repr(column), source
        case "burst":
            found = layers.burst()
            yield "burst", str(layers.rate().limit if found.value is None else found.value), found.source
        case "output" if found is not None and found.value is None:
            yield "output", "next to the roster", found.source
        case _ if found is not None:
            yield option.name, for_people(option.kind, found.value), found.source
