"""What a reply means, for its row and for the run. Pure functions only."""

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
    REJECTED = "the row has failed; another request would not help"
    UNAUTHORIZED = "stop the run: every other row would be refused too"
    THROTTLED = "the server asks to wait: all rows do; costs the row nothing"
    UNREACHABLE = "the request never left: all rows wait; costs the row nothing"
    RETRY = "try again; no token was issued"
    RETRY_MAYBE_ISSUED = "try again; a token may have been issued"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply means. It is judged once, when it arrives; all who need to know get this.

    Attributes:
        kind: what to do about it.
        hint: how to fix it, where it is the last word on a row; None for a token.
        genuine: whether it certainly comes from the Samsara API: it holds a token, or an error with a request id.
        foreign: whether it is what a wrong address, a captive portal or a proxy that opens TLS would give. A 5xx, a
            429 or a refused key is not: a gateway of the API itself may answer so in words of its own.
    """

    kind: VerdictKind
    hint: Hint | None
    genuine: bool
    foreign: bool


_ISSUED = Verdict(VerdictKind.ISSUED, None, genuine=True, foreign=False)

_FAULTS = {
    Fault.UNREACHABLE: (VerdictKind.UNREACHABLE, Hint.UNREACHABLE),
    Fault.TLS: (VerdictKind.UNREACHABLE, Hint.TLS),
    Fault.PROXY: (VerdictKind.UNREACHABLE, Hint.PROXY),
    Fault.DESCRIPTORS: (VerdictKind.UNREACHABLE, Hint.DESCRIPTORS),
    Fault.NO_ANSWER: (VerdictKind.RETRY_MAYBE_ISSUED, Hint.MAYBE_ISSUED),
    Fault.TIMEOUT: (VerdictKind.RETRY_MAYBE_ISSUED, Hint.MAYBE_ISSUED),
    Fault.REPEATED: (VerdictKind.RETRY_MAYBE_ISSUED, Hint.SAME_TOKEN),
}


def judge(reply: Reply) -> Verdict:
    """What a reply means, by its status alone: the API's documentation says that message texts may change."""
    if reply.status == 200 and reply.token and reply.fault not in _FAULTS:  # noqa: PLR2004 - an HTTP status
        return _ISSUED
    kind, hint = _FAULTS[reply.fault] if reply.fault in _FAULTS else _by_status(reply)
    genuine = bool(reply.token or reply.request_id)
    foreign = not genuine and (reply.fault is Fault.TLS or hint is Hint.ADDRESS)
    return Verdict(kind, hint, genuine, foreign)


def _by_status(reply: Reply) -> tuple[VerdictKind, Hint]:
    match reply.status:
        case 401:
            return VerdictKind.UNAUTHORIZED, Hint.API_TOKEN_INVALID
        case 403:
            return VerdictKind.UNAUTHORIZED, Hint.API_TOKEN_FORBIDDEN
        case 404:  # the API's own 404 carries a request id, that of a wrong address does not
            return VerdictKind.REJECTED, Hint.UNKNOWN_DRIVER if reply.request_id else Hint.ADDRESS
        case 405:
            return VerdictKind.REJECTED, Hint.ADDRESS
        case 408:
            return VerdictKind.RETRY, Hint.SERVER
        case 429:
            return VerdictKind.THROTTLED, Hint.THROTTLED
        case int(status) if 200 <= status < 300:  # noqa: PLR2004 - the classes of HTTP statuses
            return VerdictKind.RETRY_MAYBE_ISSUED, Hint.ADDRESS
        case int(status) if 300 <= status < 400:  # noqa: PLR2004 - of whatever stands before the API
            return VerdictKind.RETRY, Hint.ADDRESS
        case int(status) if 400 <= status < 500:  # noqa: PLR2004
            foreign = reply.web_page and not reply.request_id
            return VerdictKind.REJECTED, Hint.ADDRESS if foreign else Hint.REFUSED
        case _:
            return VerdictKind.RETRY_MAYBE_ISSUED, Hint.SERVER


def unauthorized(reply: Reply, verdict: Verdict) -> Ending:
    """What a 401 or 403 means for the whole run."""
    ending = _ending(EndingKind.UNAUTHORIZED, f"the API token was refused ({reply.message})", verdict)
    if verdict.genuine:
        return ending
    perhaps = "perhaps a proxy or firewall refused, not Samsara: check --region or --base-url and the network; else"
    return replace(ending, hint=f"{perhaps} {ending.hint}")


def not_the_api(reply: Reply, verdict: Verdict) -> Ending:
    """What it means for the whole run if only foreign replies came."""
    return _ending(EndingKind.WRONG_ADDRESS, f"this is not the Samsara API ({reply.message})", verdict)


def gave_up(reply: Reply, verdict: Verdict) -> Ending:
    """What it means for the whole run if there is nothing better for too long."""
    hint, message = verdict.hint, reply.message
    if hint is Hint.THROTTLED:
        message = "the server asks to wait, the organization's quota is used up (HTTP 429)"
    elif hint is Hint.SERVER:
        message = f"the server is in trouble ({message})"
    elif hint in (Hint.ADDRESS, Hint.REFUSED):
        message = f"something else answers in place of the Samsara API ({message})"
        return Ending(EndingKind.GAVE_UP, message, Hint.ADDRESS.fix)
    elif hint is Hint.MAYBE_ISSUED:
        return Ending(EndingKind.GAVE_UP, f"no answer comes ({message})", Hint.SILENCE.fix)
    return _ending(EndingKind.GAVE_UP, message, verdict)


def _ending(kind: EndingKind, message: str, verdict: Verdict) -> Ending:
    return Ending(kind, message, verdict.hint.fix if verdict.hint else "")
