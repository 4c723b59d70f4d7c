"""What a reply means, how long to back off, how ``Retry-After`` reads. Pure functions only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from ..hints import Hint
from ..model import Fault
from .endings import Ending, EndingKind

if TYPE_CHECKING:
    from ..model import Reply


class VerdictKind(Enum):
    """What to do about a reply."""

    ISSUED = "keep the token"
    REJECTED = "the row has failed; asking again would not help"
    KEY_REFUSED = "stop the run: every other row would be refused too"
    THROTTLED = "the server asks to wait: everybody does; costs the row nothing"
    UNREACHABLE = "the request never left: everybody waits; costs the row nothing"
    RETRY = "ask again; no token was issued"
    RETRY_MAYBE_ISSUED = "ask again; a token may have been issued"


@dataclass(frozen=True, slots=True)
class Meaning:
    """A verdict, and the hint to give where it is the last word on a row."""

    verdict: VerdictKind
    hint: Hint | None = None


_FAULTS = {
    Fault.UNREACHABLE: Meaning(VerdictKind.UNREACHABLE, Hint.UNREACHABLE),
    Fault.TLS: Meaning(VerdictKind.UNREACHABLE, Hint.TLS),
    Fault.PROXY: Meaning(VerdictKind.UNREACHABLE, Hint.PROXY),
    Fault.DESCRIPTORS: Meaning(VerdictKind.UNREACHABLE, Hint.DESCRIPTORS),
    Fault.NO_ANSWER: Meaning(VerdictKind.RETRY_MAYBE_ISSUED, Hint.MAYBE_ISSUED),
    Fault.TIMEOUT: Meaning(VerdictKind.RETRY_MAYBE_ISSUED, Hint.MAYBE_ISSUED),
    Fault.REPEATED: Meaning(VerdictKind.RETRY_MAYBE_ISSUED, Hint.SAME_TOKEN),
}


def meaning(reply: Reply) -> Meaning:  # noqa: C901 - one case per class of status reads well
    """What a reply means, by its status alone: the API's documentation says that message texts may change."""
    if reply.fault in _FAULTS:
        return _FAULTS[reply.fault]
    match reply.status:
        case 200 if reply.token:
            return Meaning(VerdictKind.ISSUED)
        case 401:
            return Meaning(VerdictKind.KEY_REFUSED, Hint.KEY_INVALID)
        case 403:
            return Meaning(VerdictKind.KEY_REFUSED, Hint.KEY_FORBIDDEN)
        case 404:  # the API's own 404 carries a request id, that of a wrong address does not
            return Meaning(VerdictKind.REJECTED, Hint.UNKNOWN_DRIVER if reply.request_id else Hint.ADDRESS)
        case 405:
            return Meaning(VerdictKind.REJECTED, Hint.ADDRESS)
        case 408:
            return Meaning(VerdictKind.RETRY, Hint.SERVER)
        case 429:
            return Meaning(VerdictKind.THROTTLED, Hint.THROTTLED)
        case int(status) if 200 <= status < 300:  # noqa: PLR2004 - the classes of HTTP statuses
            return Meaning(VerdictKind.RETRY_MAYBE_ISSUED, Hint.ADDRESS)
        case int(status) if 300 <= status < 400:  # noqa: PLR2004 - of whoever stands before the API
            return Meaning(VerdictKind.RETRY, Hint.ADDRESS)
        case int(status) if 400 <= status < 500:  # noqa: PLR2004
            foreign = reply.web_page and not reply.request_id
            return Meaning(VerdictKind.REJECTED, Hint.ADDRESS if foreign else Hint.REFUSED)
        case _:
            return Meaning(VerdictKind.RETRY_MAYBE_ISSUED, Hint.SERVER)


def is_genuine(reply: Reply) -> bool:
    """Whether it certainly comes from the Samsara API: it holds a token, or an error with a request id."""
    return bool(reply.token or reply.request_id)


def is_foreign(reply: Reply) -> bool:
    """Whether it is what a wrong address, a captive portal or a proxy that opens TLS would give.

    A 5xx, a 429 or a refused key is not: a gateway of the API itself may say those in words of its own.
    """
    if is_genuine(reply):
        return False
    return reply.fault is Fault.TLS or meaning(reply).hint is Hint.ADDRESS


def key_refused(reply: Reply) -> Ending:
    """What a 401 or 403 means for the whole run."""
    ending = _ending(EndingKind.KEY_REFUSED, f"the API token was refused ({reply.message})", reply)
    if is_genuine(reply):
        return ending
    perhaps = "perhaps a proxy or firewall refused, not Samsara: check --region or --base-url and the network; else"
    return replace(ending, tip=f"{perhaps} {ending.tip}")


def not_the_api(reply: Reply) -> Ending:
    """What it means for the whole run if nothing but such replies came."""
    return _ending(EndingKind.WRONG_ADDRESS, f"this is not the Samsara API ({reply.message})", reply)


def gave_up(reply: Reply) -> Ending:
    """What it means for the whole run if there is nothing better for too long."""
    hint, message = meaning(reply).hint, reply.message
    if hint is Hint.THROTTLED:
        message = "the server asks to wait, the organization's quota is used up (HTTP 429)"
    elif hint is Hint.SERVER:
        message = f"the server is in trouble ({message})"
    elif hint in (Hint.ADDRESS, Hint.REFUSED):
        message = f"something else answers in place of the Samsara API ({message})"
        return Ending(EndingKind.GAVE_UP, message, Hint.ADDRESS.cure)
    elif hint is Hint.MAYBE_ISSUED:
        return Ending(EndingKind.GAVE_UP, f"no answer comes ({message})", Hint.SILENCE.cure)
    return _ending(EndingKind.GAVE_UP, message, reply)


def _ending(kind: EndingKind, message: str, reply: Reply) -> Ending:
    hint = meaning(reply).hint
    return Ending(kind, message, hint.cure if hint else "")
