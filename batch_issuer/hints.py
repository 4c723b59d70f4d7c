"""One table: what happened, where to fix it, and how.

It is the source of ``auth_hint``, of the hint at the end of a run and of the troubleshooting page.
"""

from __future__ import annotations

from enum import Enum, StrEnum

SCOPE = "Write Driver Auth Token"

_REGION = "outside the US, pass --region eu or --region ca"
_RETRY = "then run batch-issuer retry"


class Where(StrEnum):
    """Where to fix it."""

    ROSTER = "roster"
    RESULTS = "results file"
    DASHBOARD = "Samsara dashboard"
    NETWORK = "network"
    SAMSARA = "Samsara"
    COMPUTER = "this computer"
    TOOL = "batch-issuer"


class Hint(Enum):
    """What happened, where to fix it, and how; ``str()`` gives the last two as one line."""

    # found in the roster, nothing was sent
    NO_IDENTIFIER = (
        "no identifier in the row",
        Where.ROSTER,
        "add a driver ID, an external ID or a username",
    )
    DRIVER_ID = (
        "not a valid driver ID",
        Where.ROSTER,
        "enter the ID as Samsara shows it, such as 281474977075805",
    )
    ROUNDED_DRIVER_ID = (
        "a driver ID that lost digits in a spreadsheet, such as 2.81475E+14",
        Where.ROSTER,
        (
            "format the column as text, paste the IDs again and export the file; "
            "if the roster has usernames, --identify-by username works too"
        ),
    )
    CELL_ERROR = (
        "a formula error, such as #N/A",
        Where.ROSTER,
        "correct the formula, or replace it with its value",
    )
    ROUNDED_TEXT = (
        "an external ID or username that lost digits in a spreadsheet",
        Where.ROSTER,
        "format the column as text, paste the values again and export the file",
    )
    EXTERNAL_ID = (
        "not a valid external ID",
        Where.ROSTER,
        "write it as key:value, such as payrollId:ABFS18600, or pass a key for all rows: --external-key payrollId",
    )
    SEVERAL_EXTERNAL_IDS = (
        "several external IDs in one cell",
        Where.ROSTER,
        "keep one of them, or choose by key: --external-key payrollId",
    )
    CHARACTERS = (
        "invisible characters in an identifier",
        Where.ROSTER,
        "delete the cell's content and type it again",
    )
    REPEATED_HEADER = ("a repeated header row", Where.ROSTER, "delete this row")
    TOTALS = ("a row of totals", Where.ROSTER, "delete this row, or move it up if it is a driver")
    NO_ORGANIZATION = (
        "an organization that is missing or not in the settings file",
        Where.ROSTER,
        "enter a name from the settings file, or add it there; batch-issuer config lists the names",
    )
    DUPLICATE = (
        "the same driver in two rows",
        Where.ROSTER,
        "delete one of the two rows, or correct its identifier",
    )

    # found in a results file, nothing was sent
    ANOTHER_DRIVER = (
        "the cells of a row and its auth_identifier name different drivers",
        Where.RESULTS,
        "correct the cells, or clear auth_identifier to use the driver that they name",
    )
    ANOTHER_COLUMN = (
        "unclear which column identifies the driver",
        Where.RESULTS,
        "pass the flags that issue was given (--map, --identify-by, --external-key)",
    )
    CORRUPTED = (
        "a token, code or status changed by a spreadsheet program",
        Where.RESULTS,
        "restore these cells, or run batch-issuer retry for a new token",
    )

    # an error of the API
    UNKNOWN_DRIVER = (
        "HTTP 404: Samsara does not know the driver",
        Where.ROSTER,
        (
            "correct the identifier (for retry, also clear auth_identifier), "
            "or check that the API token belongs to the right organization"
        ),
    )
    REFUSED = (
        "HTTP 400, 409, 413 or another 4xx: Samsara refused the driver",
        Where.DASHBOARD,
        "activate or correct the driver, or correct the row (for retry, also clear auth_identifier)",
    )
    API_TOKEN_INVALID = (
        "HTTP 401: the API token was refused (the run stops, exit code 3)",
        Where.DASHBOARD,
        (f'under Settings > API Tokens, copy the API token again or create one with the scope "{SCOPE}"; {_REGION}'),
    )
    API_TOKEN_FORBIDDEN = (
        "HTTP 403: the API token has too few permissions (the run stops, exit code 3)",
        Where.DASHBOARD,
        (
            f'under Settings > API Tokens, give the API token the scope "{SCOPE}" (category Drivers); {_REGION}; '
            "otherwise check with Samsara that your license includes it"
        ),
    )
    THROTTLED = (
        "HTTP 429 for longer than --give-up-after (exit code 4)",
        Where.SAMSARA,
        "run batch-issuer retry later; another program may be using the quota, or Samsara is overloaded",
    )
    SERVER = (
        "HTTP 5xx or 408: an internal error of the server",
        Where.SAMSARA,
        "run batch-issuer retry later",
    )
    SAME_TOKEN = (
        "a token that another driver already got",
        Where.NETWORK,
        f"make sure that no proxy caches replies of the Samsara API, {_RETRY}",
    )
    NO_EXPIRY = (
        "a token without a readable expiry",
        Where.SAMSARA,
        "use the token soon, or run batch-issuer retry for a new one",
    )
    EXPIRED = (
        "a token that was already expired when it arrived",
        Where.COMPUTER,
        f"check the date and time, {_RETRY}; if they are right, contact Samsara",
    )

    # between here and there
    UNREACHABLE = (
        "no connection, or the host name cannot be resolved (exit code 4 after --give-up-after)",
        Where.NETWORK,
        f"check the internet connection and the proxy, {_RETRY}",
    )
    SILENCE = (
        "no reply to any request (exit code 4 after --give-up-after)",
        Where.NETWORK,
        f"check the internet connection and whether Samsara has an outage, {_RETRY}",
    )
    TLS = (
        "an untrusted certificate, or no secure connection (exit code 4)",
        Where.NETWORK,
        (
            "check --region and --base-url, or log in to the guest network; "
            f"if a proxy decrypts traffic, set SSL_CERT_FILE to its certificate, {_RETRY}"
        ),
    )
    PROXY = (
        "the proxy refuses, or cannot be reached (exit code 4 after --give-up-after)",
        Where.NETWORK,
        f"check HTTPS_PROXY, or have the proxy allow the Samsara API, {_RETRY}",
    )
    DESCRIPTORS = (
        "too many open files",
        Where.COMPUTER,
        f"raise the limit (ulimit -n 1024) or close other programs, {_RETRY}",
    )
    ADDRESS = (
        "a web page, a redirect or another reply that is not the API's (exit code 4 if all are)",
        Where.NETWORK,
        f"check --region and --base-url, or log in to the guest network, {_RETRY}",
    )

    # the run ended first
    MAYBE_ISSUED = (
        "sent, but no reply (status unknown)",
        Where.TOOL,
        "a token may exist, but its value is lost; run batch-issuer retry for a new one",
    )
    NOT_ATTEMPTED = (
        "the run ended before the row's turn (status not_attempted)",
        Where.TOOL,
        "run batch-issuer retry",
    )
    DEADLINE = (
        "the deadline was reached (exit code 4)",
        Where.TOOL,
        "run batch-issuer retry to resume; allow more time with --deadline",
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
    """A hint; if a token may have been issued and lost, with what to do about that."""
    if not maybe_issued or hint.rstrip().endswith(LOST_TOKEN_ENDINGS):
        return hint
    return f"{hint}; {Hint.MAYBE_ISSUED.fix}" if hint else str(Hint.MAYBE_ISSUED)
