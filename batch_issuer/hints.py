"""One table: what happened → who mends it → how.

A row's ``auth_hint``, what a run says at its end, and the README's troubleshooting section are read from it.
"""

from __future__ import annotations

from enum import Enum, StrEnum

SCOPE = "Write Driver Auth Token"

_KEYS = "in the Samsara dashboard under Settings > API Tokens"
_REGION = "with --region eu or --region ca if the organization is in the EU or in Canada"
_RETRY = "then run batch-issuer retry"


class Where(StrEnum):
    """Who mends it."""

    ROSTER = "roster"
    RESULTS = "results file"
    ADMIN = "Samsara admin"
    NETWORK = "network"
    SAMSARA = "Samsara"
    COMPUTER = "this computer"
    TOOL = "this tool"


class Hint(Enum):
    """What happened, who mends it, and how; ``str()`` gives the last two as one line."""

    # found in the roster, nothing was sent
    NO_IDENTIFIER = (
        "a row without an identifier",
        Where.ROSTER,
        "give this row a driver ID, an external ID or a username",
    )
    DRIVER_ID = (
        "a cell that is no driver ID",
        Where.ROSTER,
        (
            "a driver ID is digits only, such as 281474977075805; copy it from the driver's page in Samsara, "
            "or go by the username instead, with --identify-by username"
        ),
    )
    RUINED_DRIVER_ID = (
        "a driver ID that lost digits, such as 2.81475E+14",
        Where.ROSTER,
        (
            "the spreadsheet program replaced the digits of this ID; format the column as text, paste the IDs again "
            "and export again, or go by the username instead, with --identify-by username"
        ),
    )
    CELL_ERROR = (
        "an error of a formula, such as #N/A",
        Where.ROSTER,
        "correct the formula in this cell, or put its value there",
    )
    RUINED_TEXT = (
        "an external ID or username that lost digits",
        Where.ROSTER,
        "the spreadsheet program replaced digits; format the column as text, paste the values again and export again",
    )
    EXTERNAL_ID = (
        "a cell that is no external ID",
        Where.ROSTER,
        (
            "write an external ID as key:value, for example payrollId:ABFS18600; if all of them have the same key, "
            "it can be said with --external-key payrollId"
        ),
    )
    SEVERAL_EXTERNAL_IDS = (
        "several external IDs in one cell",
        Where.ROSTER,
        "leave one of them in the cell, or say which key to use, as in --external-key payrollId",
    )
    CHARACTERS = (
        "invisible characters in an identifier",
        Where.ROSTER,
        "retype this cell: it holds invisible control characters",
    )
    REPEATED_HEADER = ("the header, repeated in the middle", Where.ROSTER, "delete this row")
    TOTALS = ("a row of totals", Where.ROSTER, "delete this row; if it is a driver after all, move it up")
    NO_ORGANIZATION = (
        "a row that names none of the organizations in the settings",
        Where.ROSTER,
        (
            "write the organization's name as the settings file does, or add the organization there; "
            "batch-issuer config lists them"
        ),
    )
    DUPLICATE = (
        "the same driver in two rows",
        Where.ROSTER,
        "one token per driver is enough; delete one of the two rows or correct its identifier",
    )

    # found in a results file, nothing was sent
    ANOTHER_DRIVER = (
        "the cells of a row name another driver than its auth_identifier",
        Where.RESULTS,
        (
            "nothing was sent, since the two contradict each other; put the cells right, "
            "or clear the row's auth_identifier to ask for the driver that they name"
        ),
    )
    ANOTHER_COLUMN = (
        "it is not certain which column names the driver",
        Where.RESULTS,
        "say by which column to go, with the flags that issue was given (--map, --identify-by, --external-key)",
    )
    CORRUPTED = (
        "a token, code or status that was changed",
        Where.RESULTS,
        "a spreadsheet program changed these cells; correct them, or run batch-issuer retry for a new token",
    )

    # said by the API
    UNKNOWN_DRIVER = (
        "HTTP 404 in the API's own words",
        Where.ROSTER,
        (
            "this organization has no such driver; look the driver up in Samsara and correct the row "
            "(for retry, clear its auth_identifier, too), "
            "or check that the API token belongs to the right organization"
        ),
    )
    REFUSED = (
        "HTTP 400, 409, 413 or another 4xx",
        Where.ADMIN,
        (
            "Samsara refused this driver for the reason given; activate or correct the driver in Samsara, "
            "or correct the row (for retry, clear its auth_identifier, too) or take it out"
        ),
    )
    API_TOKEN_INVALID = (
        "HTTP 401: the run stops, exit code 3",
        Where.ADMIN,
        (
            f"copy the API token again, or create one, {_KEYS}: it needs the scope "
            f'"{SCOPE}" (category Drivers) and is valid in its own region only, so run {_REGION}'
        ),
    )
    API_TOKEN_FORBIDDEN = (
        "HTTP 403: the run stops, exit code 3",
        Where.ADMIN,
        (
            f'give the API token the scope "{SCOPE}" (category Drivers), or create one with it, {_KEYS}; '
            f"or run {_REGION}; else ask Samsara whether your licence includes it"
        ),
    )
    THROTTLED = (
        "HTTP 429 for longer than --give-up-after: exit code 4",
        Where.SAMSARA,
        (
            "the server kept asking to wait: another program may use up the organization's quota, "
            "or Samsara is overloaded; run batch-issuer retry later"
        ),
    )
    SERVER = (
        "HTTP 5xx or 408",
        Where.SAMSARA,
        "the server had an internal problem; run batch-issuer retry later",
    )
    SAME_TOKEN = (
        "the token of another driver came a second time",
        Where.NETWORK,
        (
            "something between here and Samsara repeats old answers, or Samsara does; ask whoever runs the network "
            f"about a proxy that keeps answers, {_RETRY}"
        ),
    )
    NO_EXPIRY = (
        "a token without a readable expiry",
        Where.SAMSARA,
        "the token can be used, but nobody knows how long; use it soon, or run batch-issuer retry for another",
    )
    EXPIRED = (
        "a token that had expired when it came",
        Where.COMPUTER,
        f"check the date and time of this computer, {_RETRY}; if they are right, ask Samsara",
    )

    # between here and there
    UNREACHABLE = (
        "no connection, or the name cannot be looked up, for longer than --give-up-after: exit code 4",
        Where.NETWORK,
        f"check this computer's internet connection and proxy, {_RETRY}",
    )
    SILENCE = (
        "nothing that was sent is answered, for longer than --give-up-after: exit code 4",
        Where.NETWORK,
        f"check this computer's internet connection, and whether Samsara has an outage, {_RETRY}",
    )
    TLS = (
        "the certificate is not trusted, or no secure connection: exit code 4",
        Where.NETWORK,
        (
            "check --region or --base-url, and whether a guest network wants you to log in; if the network opens "
            f"encrypted traffic, ask whoever runs it for its certificate and point SSL_CERT_FILE to that, {_RETRY}"
        ),
    )
    PROXY = (
        "the proxy refuses, or cannot be reached",
        Where.NETWORK,
        f"check HTTPS_PROXY, or ask whoever runs the proxy to let the Samsara API through, {_RETRY}",
    )
    DESCRIPTORS = (
        "too many open files",
        Where.COMPUTER,
        f"raise the limit of open files (ulimit -n 1024) or end other programs, {_RETRY}",
    )
    ADDRESS = (
        "a web page, a redirection, or an answer that is none of the API's: exit code 4 if all are",
        Where.NETWORK,
        f"check --region or --base-url, and whether a guest network wants you to log in, {_RETRY}",
    )

    # the run ended first
    MAYBE_ISSUED = (
        "sent, but no answer came (status unknown)",
        Where.TOOL,
        (
            "a token may exist for this driver but its value is lost; it expires by itself, "
            "so run batch-issuer retry for a new one"
        ),
    )
    NOT_ATTEMPTED = (
        "the run ended first (status not_attempted)",
        Where.TOOL,
        "nothing is known to be wrong with this row; run batch-issuer retry for a token",
    )
    DEADLINE = (
        "the deadline came: exit code 4",
        Where.TOOL,
        "start earlier or allow more time with --deadline; batch-issuer retry goes on",
    )

    def __init__(self, what: str, where: Where, fix: str) -> None:
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.where}: {self.fix}"


LOST_TOKEN_ENDINGS = (
    Hint.MAYBE_ISSUED.fix,
    (
        "a token may exist for this driver but its value is lost; it expires by itself, "
        "so run batch-issuer retry for a new one"
    ),
)
"""How the hint of a row ends for which a token may exist: today, and in results files of earlier versions."""


def hint_text(hint: str, *, maybe_issued: bool) -> str:
    """A hint, with what to do about a token that may exist and never came, if that is so."""
    if not maybe_issued or hint.rstrip().endswith(LOST_TOKEN_ENDINGS):
        return hint
    return f"{hint}; {Hint.MAYBE_ISSUED.fix}" if hint else str(Hint.MAYBE_ISSUED)
