"""What the cells of a user's file mean: ids and lists of ids. Cells are parsed, never evaluated."""

from __future__ import annotations

import ast
import json
from typing import Any

SEPARATORS = ("|", ";", ",")
"""Tried in this order on a list that is neither JSON nor a Python literal; else white space separates."""

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


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise ValueError(f"{text[:40]!r} is not a list") from None
