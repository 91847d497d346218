"""What one cell says: an id, a text, a list of ids. Cells are parsed, never evaluated.

One grammar for every file and command: a cell means the same wherever it comes from. Cells of CSV are text; those of
JSON and Parquet are Python values, and mean what their text would.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from typing import Any

SEPARATORS = ("|", ";", ",")
"""Of a list without brackets, tried in this order; else white space separates."""

MISSING = frozenset({"", "nan", "NaN", "NAN", "None", "null", "NULL", "<NA>", "NaT", r"\N"})
"""How programs write an empty cell."""

DOUBTFUL = frozenset(
    {"NA", "N/A", "#N/A", "n/a", "na", "none", "NONE", "Null", "Nan", "nil", "undefined", "-", "?", "unknown"}
)
"""What may be an id, or stand for an empty cell; it counts as an id, and that is said."""

_WHOLE = re.compile(r"(-?\d+)\.0+")
_SHORTENED = re.compile(r"-?\d+(\.\d+)?[eE]\+\d+")
_LARGEST_EXACT = 2.0**53
_CLOSING = {"[": "]", "(": ")", "{": "}"}
_ELEMENT = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,'"\[\](){}]+)\s*(,?)""", re.DOTALL)


class CellError(ValueError):
    """A cell is not what it should be.

    Args:
        what: is wrong, as the end of a sentence about the cell.
        cell: the cell.
    """

    def __init__(self, what: str, cell: Any = None) -> None:
        super().__init__(what if cell is None else f"{what}: {shown(cell)}")
        self.what = what
        self.cell = cell


def shown(cell: Any) -> str:
    """Write a cell for a message, at most 60 characters of it."""
    text = repr(cell[:80] if isinstance(cell, (str, bytes)) else cell)
    return text if len(text) <= 60 else text[:57] + "..."


def as_id(cell: Any) -> str:
    """Read an id: text without surrounding space; whole numbers have no ".0"; "" where it is missing.

    Raises:
        CellError: if it is a list or an object, a number that lost digits, goes over lines, or is no text.

    >>> as_id(7.0), as_id("7.0"), as_id(" B00X "), as_id("7.5"), as_id(None), as_id("nan")
    ('7', '7', 'B00X', '7.5', '', '')
    """
    if isinstance(cell, float):
        if cell.is_integer():
            if abs(cell) > _LARGEST_EXACT:
                raise CellError("an id is a decimal number too large to be exact (write the column as text)", cell)
            return str(int(cell))
        cell = str(cell)
    text = _plain(cell, "an id")
    if text in MISSING:
        return ""
    if "\n" in text or "\r" in text:
        raise CellError("an id goes over several lines (a quote is not closed)", text)
    if text[0] == "[" and is_list(text):
        raise CellError("an id is a list", text)
    last = text[-1]
    if last == "0" and (whole := _WHOLE.fullmatch(text)):
        return whole[1]
    if last.isdigit() and "+" in text and _SHORTENED.fullmatch(text):
        raise CellError("an id is a number that a spreadsheet shortened", text)
    return text


def as_text(cell: Any) -> str:
    """Read a text without surrounding space; "" where it is missing.

    Raises:
        CellError: if it is a list or an object, or no text.
    """
    text = _plain(cell, "a title")
    return "" if text in MISSING else text


def parse_list(cell: Any, separator: str | None = None) -> list[str]:
    """Read a list of ids: a list, JSON, a Python literal, an array as numpy or PostgreSQL print it, or plain text.

    Plain text is split at ``separator``, or, without one, at the first of `SEPARATORS` that it holds, else at white
    space. A missing id between others is "".

    Raises:
        CellError: if it begins like a list and is none, or one of its elements is no id.

    >>> parse_list("['a', 'b']"), parse_list("[1, 2.0]"), parse_list("['a' 'b']"), parse_list("a|b"), parse_list("")
    (['a', 'b'], ['1', '2'], ['a', 'b'], ['a', 'b'], [])
    """
    return [as_id(element) for element in elements(cell, separator)]


def elements(cell: Any, separator: str | None = None) -> list[Any]:
    """Split a cell as `parse_list` does, and leave its elements as they stand.

    Raises:
        CellError: if it begins like a list and is none.
    """
    if isinstance(cell, bytes):
        cell = _plain(cell, "a list")
    if isinstance(cell, str):
        text = cell.strip()
        if text in MISSING:
            return []
        if text[0] in "[(" or (text[0] == "{" and "," in text):
            return _bracketed(text)
        separator = separator or next((s for s in SEPARATORS if s in text), None)
        return [part.strip() for part in text.split(separator) if part.strip()]
    if isinstance(cell, (list, tuple)):
        return list(cell)
    if isinstance(cell, dict):
        raise CellError("not a list of ids", cell)
    return [] if cell is None else [cell]


def find_separator(cells: Iterable[Any]) -> str | None:
    """Return the separator that most of the longer ones of these cells hold; None leaves it to each cell.

    >>> find_separator(["A Day|Blue Train", "A Day", "A|B"]), find_separator(["a b", "c"])
    ('|', None)
    """
    texts = [cell for cell in cells if isinstance(cell, str) and cell.strip()[:1] not in ("", "[", "(", "{")]
    holding = {s: sum(s in text for text in texts) for s in SEPARATORS}
    longer = sum(len(text.split()) > 1 or any(s in text for s in SEPARATORS) for text in texts)
    return next((s for s, count in holding.items() if 2 * count > longer), None)


def is_list(cell: Any) -> bool:
    """Say whether a cell can be nothing but a list."""
    if isinstance(cell, str):
        text = cell.strip()
        return len(text) > 1 and text[0] == "[" and text[-1] == "]"
    return isinstance(cell, (list, tuple))


def _plain(cell: Any, kind: str) -> str:
    if isinstance(cell, str):
        return cell.strip()
    if cell is None:
        return ""
    if isinstance(cell, bytes):
        try:
            return cell.decode().strip()
        except UnicodeDecodeError:
            raise CellError(f"{kind} is bytes that are not UTF-8", cell) from None
    if isinstance(cell, (list, tuple, dict, set)):
        raise CellError(f"{kind} is a {'list' if isinstance(cell, (list, tuple)) else 'record'}", cell)
    return str(cell).strip()


def _bracketed(text: str) -> list[Any]:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return _printed(text)
    if not isinstance(read, list):
        raise CellError("not a list of ids", text)
    return read


def _printed(text: str) -> list[str]:
    """Read what Python, numpy or PostgreSQL print: elements between commas, or all of them between white space."""
    if len(text) < 2 or text[-1] != _CLOSING[text[0]]:
        raise CellError("not a list of ids", text)
    inner, place, found, commas = text[1:-1], 0, [], []
    while place < len(inner) and not inner[place:].isspace():
        match = _ELEMENT.match(inner, place)
        if match is None or match[1] == "..." or (text[0] == "{" and ":" in match[1]):
            raise CellError("not a list of ids", text)
        found.append(_unquoted(match[1]))
        commas.append(match[2])
        place = match.end()
    if len(set(commas[:-1])) > 1:
        raise CellError("not a list of ids (a comma is missing)", text)
    return found


def _unquoted(element: str) -> str:
    if element[0] not in "'\"":
        return element
    if "\\" not in element:
        return element[1:-1]
    try:
        return str(ast.literal_eval(element))
    except (ValueError, SyntaxError):
        raise CellError("not a list of ids", element) from None
