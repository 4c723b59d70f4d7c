"""One table: what went wrong with a row → who mends it, and how. The results file's ``auth_hint`` is read from it."""

from __future__ import annotations

from enum import Enum

SCOPE = "Write Driver Auth Token"


class Hint(Enum):
    """Who mends it, and how; ``str()`` gives both as one line."""

    # found in the roster, nothing was sent
    NO_IDENTIFIER = ("roster", "give this row a driver ID, an external ID or a username")
    DRIVER_ID = (
        "roster",
        (
            "a driver ID is digits only, such as 281474977075805; copy it from the driver's page in Samsara, "
            "or go by the username instead, with --identify-by username"
        ),
    )
    RUINED_DRIVER_ID = (
        "roster",
        (
            "the spreadsheet program replaced the digits of this ID; format the column as text, paste the IDs again "
            "and export again, or go by the username instead, with --identify-by username"
        ),
    )
    CELL_ERROR = ("roster", "correct the formula in this cell, or put its value there")
    RUINED_TEXT = (
        "roster",
        "the spreadsheet program replaced digits; format the column as text, paste the values again and export again",
    )
    EXTERNAL_ID = (
        "roster",
        (
            "write an external ID as key:value, for example payrollId:ABFS18600; if all of them have the same key, "
            "it can be said with --external-key payrollId"
        ),
    )
    SEVERAL_EXTERNAL_IDS = (
        "roster",
        "leave one of them in the cell, or say which key to use, as in --external-key payrollId",
    )
    CHARACTERS = ("roster", "retype this cell: it holds invisible control characters")
    REPEATED_HEADER = ("roster", "delete this row")
    TOTALS = ("roster", "delete this row; if it is a driver after all, move it up")
    DUPLICATE = ("roster", "one token per driver is enough; delete one of the two rows or correct its identifier")

    ANOTHER_DRIVER = (
        "results file",
        (
            "nothing was sent, since the two contradict each other; put the cells right, "
            "or clear the row's auth_identifier to ask for the driver that they name"
        ),
    )

    ANOTHER_COLUMN = (
        "results file",
        "say by which column to go, with the flags that issue was given (--map, --identify-by, --external-key)",
    )

    SPOILT = (
        "results file",
        "a spreadsheet program changed these cells; correct them, or run batch-issuer retry for a new token",
    )

    # said by the API
    UNKNOWN_DRIVER = (
        "roster",
        (
            "this organization has no such driver; look the driver up in Samsara and correct the row "
            "(for retry, clear its auth_identifier, too), "
            "or check that the API token belongs to the right organization"
        ),
    )
    REFUSED = (
        "Samsara admin",
        (
            "Samsara refused this driver for the reason given; activate or correct the driver in Samsara, "
            "or correct the row (for retry, clear its auth_identifier, too) or take it out"
        ),
    )
    KEY = (
        "Samsara admin",
        (
            f'the API token needs the scope "{SCOPE}" and must be of this region and organization; '
            "create one in the Samsara dashboard under Settings > API Tokens"
        ),
    )
    THROTTLED = ("Samsara", "the server kept asking to wait; run batch-issuer retry later")
    SERVER = ("Samsara", "the server had an internal problem; run batch-issuer retry later")

    # between here and there
    UNREACHABLE = ("network", "check this computer's internet connection and proxy, then run batch-issuer retry")
    TLS = (
        "network",
        (
            "the secure connection failed; ask whoever runs the network about a proxy that opens encrypted traffic "
            "and point SSL_CERT_FILE to its certificate"
        ),
    )
    PROXY = ("network", "check HTTPS_PROXY: the proxy did not let the request through")
    DESCRIPTORS = (
        "this computer",
        "too many files are open; raise the limit (ulimit -n 1024) or end other programs, then run batch-issuer retry",
    )
    MAYBE_ISSUED = (
        "network or Samsara",
        (
            "a token may exist for this driver but its value is lost; it expires by itself, "
            "so run batch-issuer retry for a new one"
        ),
    )
    ADDRESS = ("network", "this is not the Samsara API; check --region or --base-url, and log in to guest networks")

    # the run ended first
    NOT_ATTEMPTED = ("nobody", "nothing is known to be wrong with this row; run batch-issuer retry for a token")

    def __init__(self, who: str, cure: str) -> None:
        self.who = who
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.who}: {self.cure}"
