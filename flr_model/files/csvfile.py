"""Delimited text, row by row; RecBole's atomic files are one dialect of it.

A row that breaks the rules of quoting is refused alone, and reading goes on in the line after it: a quotation mark that
is not closed swallows nothing.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from flr_model.files.dialect import DELIMITERS, Dialect
from flr_model.files.reading import Reading
from flr_model.files.rows import Row
from flr_model.files.textfiles import find_encoding, open_text, read_head, readable

_NOT_CLOSED = "a quote is not closed"


@dataclass(frozen=True)
class CsvFile:
    """A delimited text file whose dialect is known; rows are read when asked for.

    Args:
        path: the file, plain or gzip.
        dialect: how lines become rows.
        encoding: as Python names it.
    """

    path: Path
    dialect: Dialect
    encoding: str

    @classmethod
    def open(cls, path: Path, reading: Reading) -> CsvFile:
        """Find encoding and dialect.

        Raises:
            DataError: if it is empty, not text, has a header and nothing else, or can be read in two ways.
        """
        encoding = find_encoding(path, reading.encoding)
        with readable(path):
            return cls(path, Dialect.of(path, read_head(path, encoding), reading), encoding)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns; "1", "2", ... when there is no header."""
        return self.dialect.names

    def without_header(self) -> CsvFile:
        """Read the first line as a row too."""
        return CsvFile(self.path, self.dialect.without_header(), self.encoding)

    @property
    def about(self) -> str:
        """How the file is read, for reports and messages."""
        kind = "RecBole atomic file" if self.dialect.recbole else "CSV"
        delimiter = DELIMITERS.get(self.dialect.delimiter, repr(self.dialect.delimiter))
        return f"{kind}, {delimiter}, {self.encoding}" + ("" if self.dialect.header else ", no header")

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """Give the named cells of every row, as text, and what is wrong where a row is broken.

        Raises:
            DataError: if the file is damaged.
        """
        width = len(self.names)
        places = [self.names.index(name) for name in names]
        header = self.dialect.header
        with readable(self.path), open_text(self.path, self.encoding) as text:
            for line, cells in self._records(text):
                if cells is None:
                    yield Row(line, None, _NOT_CLOSED)
                elif not cells or (len(cells) == 1 < width and not cells[0].strip()):
                    continue  # blank lines are no rows
                elif header:
                    header = False
                elif len(cells) == width or (len(cells) > width and not any(cells[width:])):
                    yield Row(line, [cells[place] for place in places])
                else:
                    yield Row(line, None, f"{len(cells)} cells instead of {width}")

    def _records(self, text: TextIO) -> Iterator[tuple[int, list[str] | None]]:
        """Give the cells of every record with the line it begins in; None where its quotes are broken."""
        delimiter = self.dialect.delimiter
        if not self.dialect.quoted:
            for number, line in enumerate(text, start=1):
                yield number, line.rstrip("\r\n").split(delimiter) if line.strip() else []
            return
        taken: list[str] = []
        back: deque[str] = deque()

        def lines() -> Iterator[str]:
            while line := back.popleft() if back else text.readline():
                taken.append(line)
                yield line

        reader, number = csv.reader(lines(), delimiter=delimiter, strict=True), 1
        while True:
            try:
                cells = next(reader)
                whole = len(taken) == 1 or not self._open_quote(taken)
            except StopIteration:
                return
            except csv.Error:
                whole = False
            if whole:
                yield number, cells
            else:
                yield number, self._alone(taken[0])
                back.extendleft(reversed(taken[1:]))
                reader = csv.reader(lines(), delimiter=delimiter, strict=True)
            number += len(taken) if whole else 1
            taken.clear()

    def _open_quote(self, lines: Sequence[str]) -> bool:
        """Say whether the lines of one record are each a row: then a quote of one of them ends in another."""
        width = len(self.names)
        if width < 3 and len(lines) < 4:
            return False
        return all(len(next(csv.reader([line], delimiter=self.dialect.delimiter), [])) == width for line in lines)

    def _alone(self, line: str) -> list[str] | None:
        """Read a line whose quotes are broken: backslashes may escape them, and between tabs they are often plain."""
        try:
            cells = next(csv.reader([line], delimiter=self.dialect.delimiter, escapechar="\\", strict=True), [])
            if "\\" in line and len(cells) == len(self.names):
                return cells
        except csv.Error:
            pass
        plain = line.rstrip("\r\n").split(self.dialect.delimiter)
        return plain if self.dialect.delimiter == "\t" and len(plain) == len(self.names) else None
