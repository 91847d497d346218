"""The dialect of a delimited text: its delimiter, and whether its first line names the columns.

The content decides. Where two readings fit alike, the file is refused with the flag that settles it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flr_model import columns
from flr_model.errors import DataError
from flr_model.files.reading import Reading
from flr_model.files.times import looks_timed

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar", "::": "two colons"}
"""Tried without --delimiter."""

LARGEST_CELL = 1 << 26
"""Characters of one cell; a quotation mark that is never closed ends here instead of filling the memory."""

csv.field_size_limit(max(csv.field_size_limit(), LARGEST_CELL))

_RECBOLE = re.compile(r"(.+):(token|token_seq|float|float_seq)")
_NUMBER = re.compile(r"[-+]?\d+([.,]\d*)?(e[-+]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Dialect:
    """How the lines of a text become rows.

    Args:
        names: of the columns; "1", "2", ... without a header.
        delimiter: one or more characters.
        header: whether the first line names the columns.
        quoted: whether cells may be quoted. RecBole's never are, nor those between tabs without a header or between
            several characters.
        recbole: whether the header has RecBole's types.
    """

    names: tuple[str, ...]
    delimiter: str
    header: bool
    quoted: bool
    recbole: bool = False

    @classmethod
    def of(cls, path: Path, head: Sequence[str], reading: Reading) -> Dialect:
        """Find the dialect of a text from its first lines.

        Raises:
            DataError: if there are only blank lines, nothing but a header, or two delimiters that fit alike.
        """
        lines = [line for line in head if line.strip()]
        if not lines:
            raise DataError(f"{path} has only blank lines", hint="give a file with a header line and rows")
        delimiter = reading.delimiter or _delimiter(path, lines)
        first = [cell.strip() for cell in next(split(lines, delimiter))]
        typed = [_RECBOLE.fullmatch(name) for name in first]
        header = all(typed) or _names_columns(first, reading)
        if header and len(lines) == 1:
            raise DataError(f"{path} has a header ({', '.join(first)}) and no rows", hint="check how the file was made")
        names = [match[1] if match else name for name, match in zip(first, typed, strict=True)]
        if not header:
            names = [str(position + 1) for position in range(len(first))]
        quoted = not all(typed) and len(delimiter) == 1 and (header or delimiter != "\t")
        return cls(distinct(names), delimiter, header, quoted, recbole=all(typed))

    def without_header(self) -> Dialect:
        """Take the first line as a row too."""
        names = tuple(str(position + 1) for position in range(len(self.names)))
        return Dialect(names, self.delimiter, header=False, quoted=self.quoted and self.delimiter != "\t")


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Number the second of equal names, and further ones.

    >>> distinct(["a", "b", "a"])
    ('a', 'b', 'a.3')
    """
    return tuple(name if name not in names[:i] else f"{name}.{i + 1}" for i, name in enumerate(names))


def is_known(name: str) -> bool:
    """Say whether flr knows what a column of this name is."""
    return columns.normalized(name) in columns.KNOWN


def split(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """Split lines for sniffing. Between tabs a quote is often a plain character, which must not swallow lines here."""
    if delimiter == "\t" or len(delimiter) > 1:
        return ([cell.strip('"') for cell in line.rstrip("\r\n").split(delimiter)] for line in lines)
    return csv.reader(lines, delimiter=delimiter)


def _names_columns(first: Sequence[str], reading: Reading) -> bool:
    """Say whether the first line is a header: it has a name that is known, or nothing that only a row would have."""
    spelled = set(map(columns.normalized, first))
    named = [n for n in (*reading.names.values(), *reading.remembered.values()) if not n.isdecimal()]
    a_row = any(_NUMBER.fullmatch(cell) or looks_timed([cell]) for cell in first)
    numbered = any(
        name.isdecimal() and name not in first and 1 <= int(name) <= len(first) for name in reading.names.values()
    )
    if sum(map(is_known, first)) > a_row + numbered or spelled & set(map(columns.normalized, named)):
        return True
    return reading.header and not numbered and not a_row


def _delimiter(path: Path, lines: Sequence[str]) -> str:
    grades = sorted(((_fit(lines, candidate), candidate) for candidate in DELIMITERS), reverse=True)
    (best, chosen), (second, other) = grades[:2]
    if best == second and best[2] > 1:
        raise DataError(
            f"{path}: its lines can be split by {DELIMITERS[chosen]} and by {DELIMITERS[other]}",
            hint=f"say which with --delimiter '{chosen}'",
        )
    return chosen if best[2] > 1 else ","


def _fit(lines: Sequence[str], delimiter: str) -> tuple[int, float, int]:
    """Grade a delimiter: known names in the first line, share of lines with as many cells as it, number of cells."""
    try:
        first, *others = split(lines, delimiter)
    except csv.Error:
        return 0, 0.0, 0
    if len(first) == 1 or any("\n" in cell for cell in first):
        return 0, 0.0, 1
    alike = 1 + sum(len(cells) == len(first) for cells in others)
    return sum(map(is_known, first)), alike / len(lines), len(first)
