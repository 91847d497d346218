"""What cells say of time: one rule for preparing and for scoring.

A cell that can be read in one way only is read so, whatever stands beside it. Days and months in either order, and
numbers too small to be seconds of our days, are ambiguous one by one: `TimeRule.find` looks at the column, and refuses
it where that does not tell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Any

from flr_model.files.cells import MISSING, CellError

MICROSECONDS = 1_000_000
"""Ticks of a second in arrays of times."""

LATEST = 1e11
"""Seconds since 1970; larger numbers are of a smaller unit, by thousands: milli-, micro- and nanoseconds."""

NO_TIME = 1e19
"""Numbers from here on are no times in any unit."""

AUTO = "auto"

_SMALL = 1e8
"""Numbers below are seconds of before March 1973, which hardly anybody means."""

_SPREADSHEET_DAYS = (20_000.0, 80_000.0)
_YEARS = (1900.0, 2100.0)
_EXCEL_EPOCH = datetime(1899, 12, 30, tzinfo=timezone.utc)
_CLOCK = r"(?:[T ,]+(\d\d?):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)? ?([AaPp])?\.?(?:[Mm]\.?)?)?"
_ZONE = r" ?(?:Z|UTC|GMT|([+-]\d\d)(?::?(\d\d))?)?"
_YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d\d?)(?:\2(\d\d?)" + _CLOCK + ")?" + _ZONE)
_YEAR_LAST = re.compile(r"(\d\d?)([-/.])(\d\d?)\2(\d{4})" + _CLOCK + _ZONE)
_DAY_MONTH = re.compile(r"(?:[A-Za-z]{3,9},? )?(\d\d?)[ -]([A-Za-z]{3,9})\.?[ -](\d{4})" + _CLOCK + _ZONE)
_MONTH_DAY = re.compile(r"(?:[A-Za-z]{3,9},? )?([A-Za-z]{3,9})\.? (\d\d?),? (\d{4})" + _CLOCK + _ZONE)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_COMPACT = re.compile(r"(19[7-9]\d|20\d\d)(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?")

NOT_A_TIME = "is neither a number nor a date"


class AmbiguousTimesError(ValueError):
    """The cells of a column can be read in more than one way."""


@dataclass(frozen=True)
class TimeRule:
    """How the cells of one column are read as times.

    Args:
        format: one of `flr_model.config.TIME_FORMATS`, a pattern of strptime, or "auto".
    """

    format: str = AUTO
    _known: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def find(cls, cells: Iterable[Any]) -> TimeRule:
        """Find the rule of a column; reads on until it is certain.

        Raises:
            AmbiguousTimesError: if no cell tells how the others are meant.
        """
        ambiguous, small = "", _SmallNumbers()
        for cell in cells:
            if isinstance(cell, str) and (match := _YEAR_LAST.fullmatch(cell.strip())) and match[2] != ".":
                first, second = int(match[1]), int(match[3])
                if first > 12 or second > 12:
                    return cls("day-first" if first > 12 else "month-first")
                ambiguous = ambiguous or cell.strip()
                continue
            number = _number(cell)
            if number is None or math.isnan(number):
                if looks_timed([cell]):
                    return cls()
            elif not small.add(number):
                return cls()
        if ambiguous:
            raise AmbiguousTimesError(f"dates such as {ambiguous} may be written day first or month first")
        return cls(small.format())

    def seconds(self, cell: Any) -> float:
        """Read a moment as seconds since 1970; without a zone it counts as UTC.

        Raises:
            CellError: if it is none.

        >>> TimeRule().seconds("1970-01-02"), TimeRule("day-first").seconds("2/1/1970")
        (86400.0, 86400.0)
        """
        if not isinstance(cell, str):
            return self._read(cell)
        if self.format == AUTO and cell.isdecimal() and _SMALL <= (number := float(cell)) < LATEST:
            return number  # most files of logs
        seconds = self._known.get(cell)
        if seconds is None:
            seconds = self._read(cell)
            if len(self._known) < 1 << 16:
                self._known[cell] = seconds
        return seconds

    def ticks(self, cell: Any) -> int:
        """Read a moment as microseconds since 1970.

        Raises:
            CellError: if it is none.
        """
        return round(self.seconds(cell) * MICROSECONDS)

    def _read(self, cell: Any) -> float:
        try:
            seconds = self._moment(cell)
        except (ValueError, OverflowError):
            raise CellError(NOT_A_TIME, cell) from None
        if not abs(seconds) < 10 * LATEST:
            raise CellError(NOT_A_TIME, cell)
        return seconds

    def _moment(self, cell: Any) -> float:
        if isinstance(cell, datetime):
            return (cell if cell.tzinfo else cell.replace(tzinfo=timezone.utc)).timestamp()
        if isinstance(cell, date):
            return datetime(cell.year, cell.month, cell.day, tzinfo=timezone.utc).timestamp()
        if "%" in self.format:
            text = str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
            moment = datetime.strptime(text, self.format)
            return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
        number = _number(cell)
        if number is None:
            return _date(cell.strip(), self.format).timestamp()
        if self.format == "excel":
            return (_EXCEL_EPOCH + timedelta(days=number)).timestamp()
        if self.format in ("seconds", "milliseconds"):
            return number / (1 if self.format == "seconds" else 1000)
        if (self.format == "yyyymmdd" or number > LATEST) and (compact := _compact(number)):
            return compact
        if self.format == "yyyymmdd" or not abs(number) < NO_TIME:
            raise ValueError
        while abs(number) >= LATEST:
            number /= 1000
        return number


@dataclass
class _SmallNumbers:
    """Gathers numbers that are too small to be told apart one by one."""

    least: float = math.inf
    most: float = -math.inf
    whole: bool = True
    compact: bool = True

    def add(self, number: float) -> bool:
        """Take a number; false if it is large enough for no doubt to be left."""
        if abs(number) >= _SMALL:
            return False
        self.least, self.most = min(self.least, number), max(self.most, number)
        self.whole = self.whole and number.is_integer()
        self.compact = self.compact and _compact(number) is not None
        return True

    def format(self) -> str:
        """Name the format; refuse numbers that look like days or years."""
        if self.least > self.most:
            return AUTO
        if self.compact:
            return "yyyymmdd"
        span = f"numbers from {self.least:.10g} to {self.most:.10g}"
        if _SPREADSHEET_DAYS[0] <= self.least and self.most <= _SPREADSHEET_DAYS[1]:
            raise AmbiguousTimesError(
                f"{span} may be the days of a spreadsheet (--time-format excel) or count something"
            )
        if self.whole and _YEARS[0] <= self.least and self.most <= _YEARS[1]:
            raise AmbiguousTimesError(f"{span} may be years (--time-format %Y) or count something")
        return AUTO


def looks_timed(cells: Iterable[Any]) -> bool:
    """Say whether all of some cells are dates, or numbers since 1970 of our days."""
    any_time = False
    for cell in cells:
        if cell is None or (isinstance(cell, str) and cell.strip() in MISSING):
            continue
        number = None if isinstance(cell, date) else _number(cell)
        try:
            seconds = TimeRule().seconds(cell)
        except CellError:
            return False
        any_time = number is None or (
            seconds >= 5e8 and (number < LATEST or _compact(number) is not None or number > 5e11)
        )
        if not any_time:
            return False
    return any_time


def day(ticks: int) -> str:
    """Write the day of a time in microseconds, for messages.

    >>> day(86_400_000_000)
    '1970-01-02'
    """
    moment = datetime(1970, 1, 1) + timedelta(
        microseconds=max(min(ticks, 253_402_300_799_000_000), -62_135_596_800_000_000)
    )
    return moment.date().isoformat()


def _number(cell: Any) -> float | None:
    """Return a number, NaN where the cell is nothing that could be a time, None where it is other text or a date."""
    if isinstance(cell, str):
        try:
            return float(cell)
        except ValueError:
            return None
    if isinstance(cell, (bool, date, type(None), bytes, list, tuple, dict, timedelta)):
        return math.nan
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _compact(number: float) -> float | None:
    """Read 20210131, 202101311230 or 20210131123000 as seconds; None if the digits are no date."""
    if not (number.is_integer() and 1e7 < number < 1e14):
        return None
    match = _COMPACT.fullmatch(str(int(number)))
    try:
        parts = [int(part) for part in match.groups("0")] if match else [0] * 6
        year, month, day_, hour, minute, second = parts
        return datetime(year, month, day_, hour, minute, second, tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None


def _date(text: str, order: str) -> datetime:
    """Read a date with its time and zone.

    Raises:
        ValueError: if it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    except ValueError:
        pass
    if match := _YEAR_FIRST.fullmatch(text):
        year, _, month, day_, *rest = match.groups()
    elif match := _YEAR_LAST.fullmatch(text):
        day_, separator, month, year, *rest = match.groups()
        if separator != "." and order != "day-first":
            if order != "month-first":
                raise ValueError(text)
            day_, month = month, day_
    elif match := _DAY_MONTH.fullmatch(text):
        day_, name, year, *rest = match.groups()
        month = str(_month(name))
    elif match := _MONTH_DAY.fullmatch(text):
        name, day_, year, *rest = match.groups()
        month = str(_month(name))
    else:
        raise ValueError(text)
    return _with_clock(int(year), int(month), int(day_ or 1), *rest)


def _month(name: str) -> int:
    return _MONTHS.index(name[:3].lower()) + 1


def _with_clock(
    year: int,
    month: int,
    day_: int,
    hour: Any,
    minute: Any,
    second: Any,
    fraction: Any,
    half: Any,
    zone: Any,
    rest: Any,
) -> datetime:
    hours = int(hour or 0)
    if half:
        hours = hours % 12 + 12 * (half.lower() == "p")
    offset = timedelta(hours=int(zone or 0), minutes=int(f"{zone[0]}{rest}") if zone and rest else 0)
    micro = int(f"{fraction or '0':0<6}"[:6])
    return datetime(year, month, day_, hours, int(minute or 0), int(second or 0), micro, timezone(offset))
