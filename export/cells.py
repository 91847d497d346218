"""What the cells of a user's file mean: ids, lists of ids and moments. Cells are parsed, never evaluated."""

from __future__ import annotations

import ast
import json
import math
from datetime import date, datetime, timezone
from typing import Any

SEPARATORS = ("|", ";", ",")
"""Tried in this order on a list that is neither JSON nor a Python literal; else white space separates."""


LATEST = 1e11
"""Seconds since 1970; larger numbers are of a smaller unit."""

_NO_ID = {"", "nan", "NaN", "None", "null"}


def as_id(value: Any) -> str:
    """Write an id as text: whole numbers without a point, "" for a missing value.

    >>> as_id(7.0), as_id(" B00X "), as_id(None)
    ('7', 'B00X', '')
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return "" if text in _NO_ID else text


def parse_list(cell: Any) -> list[str]:
    """Read a list of ids from a cell: a list, JSON, a Python literal, or text with separators.

    Raises:
        ValueError: if it begins like a list and is none.

    >>> parse_list("['a', 'b']"), parse_list("[1, 2]"), parse_list("a|b"), parse_list("a b"), parse_list("")
    (['a', 'b'], ['1', '2'], ['a', 'b'], ['a', 'b'], [])
    """
    if cell is None:
        return []
    if isinstance(cell, str):
        text = cell.strip()
        if text[:1] not in ("[", "("):
            separator = next((s for s in SEPARATORS if s in text), None)
            return [part.strip() for part in text.split(separator) if part.strip()]
        cell = _literal(text)
    if not isinstance(cell, (list, tuple)) or any(isinstance(value, (list, tuple, dict)) for value in cell):
        raise ValueError("not a list of ids")
    return [item for value in cell if (item := as_id(value))]


def parse_time(value: Any) -> float:
    """Read a moment as seconds: a number, a date and time, or ISO 8601 text; without a zone it counts as UTC.

    The magnitude of a number tells seconds from milli-, micro- and nanoseconds.

    Raises:
        ValueError: if it is none of these.

    >>> parse_time("12.5"), parse_time("1970-01-02"), parse_time("1970-01-01T00:00:01Z")
    (12.5, 86400.0, 1.0)
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            text = value.strip()
            value = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
    if value is None or not math.isfinite(value):
        raise ValueError("no time")
    seconds = float(value)
    while abs(seconds) >= LATEST:
        seconds /= 1000
    return seconds


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise ValueError(f"{text[:40]!r} is not a list") from None
