"""A number in a workbook → the text that its cell shows: dates, leading zeros, and only exact digits."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from ..identifiers import EXACT_DIGITS

# Built-in formats of dates and times (ECMA-376 part 1, 18.8.30); 27 to 58 are those of East Asian languages.
_DATES = {*map(str, (*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)))}


def shown_number(number: str, number_format: str, epoch: datetime) -> str:
    """A number as text: a date in ISO 8601, leading zeros if the format has them, only exact digits.

    Excel keeps 15 digits. A number with more is written as Excel shows it, ``2.81474977075805E+17``, because its last
    digits are lost.

    Args:
        number: as stored.
        number_format: its code, or the number of a built-in one.
        epoch: day 0 of the workbook.
    """
    if not re.fullmatch(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", number, re.ASCII):
        return number
    value = float(number)
    if not abs(value) < float("inf"):
        return number
    if number_format in _DATES or _is_date(number_format):
        return _date(value, number_format, epoch) or number
    if not value.is_integer():
        return f"{value:.{EXACT_DIGITS}g}"
    if abs(value) >= 10**EXACT_DIGITS:
        mantissa, exponent = f"{value:.{EXACT_DIGITS - 1}E}".split("E")
        return f"{mantissa.rstrip('0').rstrip('.')}E{exponent}"
    sign = "-" if value < 0 else ""
    return sign + _placed(f"{abs(value):.0f}", number_format)


def _placed(digits: str, number_format: str) -> str:
    """Digits in a format with leading zeros or literal texts (``00000``, ``"D-"000``), else unchanged."""
    number_format = re.sub(  # colours and locales, spaces as wide as a character, repeated characters
        r'("[^"]*"|\\.)|\[(?![<>=])[^\]]*\]|_.|\*.', lambda found: found[1] or "", number_format
    ).replace("?", "#")
    positive = re.match(r'(?:"[^"]*"|\\.|[^;"])*', number_format)
    parts = re.findall(r'"[^"]*"|\\.|.', positive[0] if positive else "")
    places = [index for index, part in enumerate(parts) if part in ("0", "#")]
    if not places or not all(part in "0#-() /" or part[0] in '"\\' for part in parts):
        return digits
    shown = []
    for index in reversed(range(len(parts))):
        part = parts[index]
        if index == places[0]:
            shown.append(digits or ("0" if part == "0" else ""))
        elif index in places:
            shown.append(digits[-1:] or ("0" if part == "0" else ""))
            digits = digits[:-1]
        else:
            shown.append(part[1:-1] if part[0] == '"' else part.removeprefix("\\"))
    return "".join(reversed(shown))


def _is_date(number_format: str) -> bool:
    plain = re.sub(r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\])[^\]]*\]', "", number_format, flags=re.IGNORECASE)
    return bool(re.search("[dmyhs]", plain.partition(";")[0], re.IGNORECASE)) and "General" not in plain


def _date(value: float, number_format: str, epoch: datetime) -> str:
    """A date, a time of day or both; a duration in hours; blank if the value is neither."""
    try:
        at = epoch + timedelta(seconds=(seconds := round(value * 86400)))
    except OverflowError:
        return ""
    if value < 0:
        return ""
    if re.search(r"\[[hms]+\]", number_format, re.IGNORECASE):
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if value < 1:
        return f"{at:%H:%M:%S}"
    return at.isoformat(" ") if seconds % 86400 else at.date().isoformat()
