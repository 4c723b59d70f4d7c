"""What a reply means for its row and for the run. Pure functions."""

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
    THROTTLED = "the server throttles: all rows wait; the row keeps its attempts"
    UNREACHABLE = "the request never left: all rows wait; the row keeps its attempts"
    RETRY = "try again; no token was issued"
    RETRY_MAYBE_ISSUED = "try again; a token may have been issued"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply means. A reply is judged once, on arrival, and everything else uses this verdict.

    Attributes:
        kind: what to do about it.
        hint: how to fix it, if it is the last reply to a row; None for a token.
        genuine: whether it certainly comes from the Samsara API: it contains a token, or an error with a request id.
        foreign: whether it looks like a reply of a wrong address, a captive portal or a proxy that intercepts TLS. A
            5xx, a 429 or a refused API token does not: a gateway of the API itself may send these without a request id.
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
    """What a reply means, by its status alone: by the API's documentation, message texts may change."""
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
        case 404:  # the API's own 404 has a request id; that of a wrong address does not
            return VerdictKind.REJECTED, Hint.UNKNOWN_DRIVER if reply.request_id else Hint.ADDRESS
        case 405:
            return VerdictKind.REJECTED, Hint.ADDRESS
        case 408:
            return VerdictKind.RETRY, Hint.SERVER
        case 429:
            return VerdictKind.THROTTLED, Hint.THROTTLED
        case int(status) if 200 <= status < 300:  # noqa: PLR2004 - the classes of HTTP statuses
            return VerdictKind.RETRY_MAYBE_ISSUED, Hint.ADDRESS
        case int(status) if 300 <= status < 400:  # noqa: PLR2004 - by something in front of the API
            return VerdictKind.RETRY, Hint.ADDRESS
        case int(status) if 400 <= status < 500:  # noqa: PLR2004
            foreign = reply.web_page and not reply.request_id
            return VerdictKind.REJECTED, Hint.ADDRESS if foreign else Hint.REFUSED
        case _:
            return VerdictKind.RETRY_MAYBE_ISSUED, Hint.SERVER


def unauthorized(reply: Reply, verdict: Verdict) -> Ending:
    """How a 401 or 403 ends the run."""
    ending = _ending(EndingKind.UNAUTHORIZED, f"the API token was refused ({_reason(reply)})", verdict)
    if verdict.genuine:
        return ending
    other = "this may be a proxy or firewall, not Samsara: check --region or --base-url and the network; otherwise"
    return replace(ending, hint=f"{other} {ending.hint}")


def not_the_api(reply: Reply, verdict: Verdict) -> Ending:
    """How the run ends if all replies were foreign."""
    return _ending(EndingKind.WRONG_ADDRESS, f"the server is not the Samsara API ({_reason(reply)})", verdict)


def gave_up(reply: Reply, verdict: Verdict) -> Ending:
    """How the run ends if there is no better reply for too long."""
    hint, message = verdict.hint, _reason(reply)
    if hint is Hint.THROTTLED:
        message = "the server is limiting requests (HTTP 429)"
    elif hint is Hint.SERVER:
        message = f"the server has a problem ({message})"
    elif hint in (Hint.ADDRESS, Hint.REFUSED):
        message = f"something other than the Samsara API replied ({message})"
        return Ending(EndingKind.GAVE_UP, message, Hint.ADDRESS.fix)
    elif hint is Hint.MAYBE_ISSUED:
        return Ending(EndingKind.GAVE_UP, f"the server does not reply ({message})", Hint.SILENCE.fix)
    return _ending(EndingKind.GAVE_UP, message, verdict)


def _reason(reply: Reply) -> str:
    return reply.message.rstrip(".")


def _ending(kind: EndingKind, message: str, verdict: Verdict) -> Ending:
    return Ending(kind, message, verdict.hint.fix if verdict.hint else "")
