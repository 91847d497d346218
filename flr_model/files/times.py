"""What a cell says of time: one rule for preparing and for scoring, which loads neither torch nor pandas."""

from __future__ import annotations

import math
import re
from datetime import date, datetime, timedelta, timezone
from typing import Any

LATEST = 1e11
"""Seconds since 1970; larger numbers are of a smaller unit, by thousands: milli-, micro- and nanoseconds."""

NO_TIME = 1e19
"""Numbers from here on are no times in any unit."""

_DATE = re.compile(
    r"(\d{4})([-/.])(\d\d?)(?:\2(\d\d?)(?:[T ](\d\d?):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?)?"
    r" ?(?:Z|([+-]\d\d)(?::?(\d\d))?)?"
)


def parse_time(value: Any) -> float:
    """Read a moment as seconds: a number, a date and time, or text of either; without a zone it counts as UTC.

    The magnitude of a number tells seconds from milli-, micro- and nanoseconds. Dates are written from the year to
    the day, with or without leading zeros, between dashes, slashes or points.

    Raises:
        ValueError: if it is none of these.

    >>> parse_time("12.5"), parse_time("1970-01-02"), parse_time("1970/1/2 00:00:01"), parse_time(1_577_836_800_000)
    (12.5, 86400.0, 86401.0, 1577836800.0)
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = _moment(value.strip())
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
    if value is None or not math.fabs(value) < NO_TIME:
        raise ValueError("no time")
    seconds = float(value)
    while abs(seconds) >= LATEST:
        seconds /= 1000
    return seconds


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        match = _DATE.fullmatch(text)
        if match is None:
            raise
    year, _, month, day, hour, minute, second, fraction, zone, zone_minutes = match.groups(default="0")
    micro = int(f"{fraction:0<6}"[:6])
    moment = datetime(int(year), int(month), int(day) or 1, int(hour), int(minute), int(second), micro)
    offset = timedelta(hours=int(zone), minutes=int(f"{zone[0]}{zone_minutes}") if zone != "0" else 0)
    return moment.replace(tzinfo=timezone(offset))
