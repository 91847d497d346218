"""Delimited text: delimiter, header and encoding are sniffed; RecBole's atomic files are one dialect of it."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from flr_model import columns
from flr_model.errors import DataError, counted
from flr_model.files.textfiles import find_encoding, open_bytes, read_head

logger = logging.getLogger(__name__)

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar"}
_RECBOLE = re.compile(r"(.+):(token|token_seq|float|float_seq)")
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class CsvFile:
    """A delimited text file whose dialect is known; rows are read when asked for.

    Args:
        path: the file, plain or gzip.
        names: of its columns; "1", "2", ... when it has no header.
        delimiter: one character.
        encoding: as Python names it.
        header: whether the first line names the columns.
        skip: lines before the first row, blank ones included.
        quoted: whether cells may be quoted (RecBole's and those of `without_header` with tabs never are).
    """

    path: Path
    names: tuple[str, ...]
    delimiter: str
    encoding: str
    header: bool
    skip: int
    quoted: bool

    @classmethod
    def open(cls, path: Path) -> CsvFile:
        """Sniff a file.

        Raises:
            DataError: if it is empty, not text, or has a header and nothing else.
        """
        encoding = find_encoding(path)
        head = read_head(path, encoding)
        lines = [line for line in head if line.strip()]
        if not lines:
            raise DataError(f"{path} has only blank lines", hint="give a file with a header line and rows")
        delimiter = max(DELIMITERS, key=lambda candidate: _fit(lines, candidate))
        first = next(_rows(lines, delimiter))
        typed = [_RECBOLE.fullmatch(name) for name in first]
        header = all(typed) or has_known_name(first) or not any(_NUMBER.fullmatch(cell.strip()) for cell in first)
        names = [match[1] if match else name.strip() for name, match in zip(first, typed, strict=True)]
        if header and len(lines) == 1:
            raise DataError(f"{path} has a header ({', '.join(names)}) and no rows", hint="check how the file was made")
        if not header:
            names = [str(position + 1) for position in range(len(first))]
        distinct = tuple(name if name not in names[:i] else f"{name}.{i + 1}" for i, name in enumerate(names))
        skip = head.index(lines[0]) + header
        return cls(path, distinct, delimiter, encoding, header, skip, quoted=not all(typed))

    def without_header(self) -> CsvFile:
        """Read the first line as a row too; cells between tabs are then plain, as scripts write them line by line."""
        return replace(
            self,
            names=tuple(str(position + 1) for position in range(len(self.names))),
            header=False,
            skip=self.skip - self.header,
            quoted=self.quoted and self.delimiter != "\t",
        )

    @property
    def about(self) -> str:
        """How the file is read, for reports and messages."""
        kind = "CSV" if self.quoted or not self.header else "RecBole atomic file"
        return f"{kind}, {DELIMITERS[self.delimiter]}, {self.encoding}" + ("" if self.header else ", no header")

    def read(self, names: Sequence[str]) -> pa.Table:
        """Read the named columns as strings; an empty cell is an empty string.

        Raises:
            DataError: if rows have more or fewer cells than the header; all of them are counted.
        """
        broken: list[tuple[int, int]] = []

        def on_broken(row: Any) -> str:
            broken.append((row.number, row.actual_columns))
            return "skip"

        try:
            table = self._parse(names, on_broken)
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{self.path} cannot be parsed as {self.about}: {error}", hint="look for a quote that is not closed"
            ) from None
        self._warn_of_open_quotes(table)
        if broken:
            lines = self.lines([number - 1 - self.skip for number, _ in broken[:3]])
            shown = ", ".join(f"{line}: {cells}" for line, (_, cells) in zip(lines, broken, strict=False))
            raise DataError(
                f"{self.path}: {counted(len(broken), 'row')} without the header's {len(self.names)} cells ({shown})",
                hint=f"quote cells that contain the delimiter ({DELIMITERS[self.delimiter]})",
            )
        return table

    def _parse(self, names: Sequence[str], on_broken: Callable[[Any], str]) -> pa.Table:
        with open_bytes(self.path) as stream:
            return pa_csv.read_csv(
                stream,
                pa_csv.ReadOptions(
                    use_threads=False,
                    block_size=1 << 24,
                    skip_rows=self.skip,
                    column_names=list(self.names),
                    encoding=self.encoding,
                ),
                pa_csv.ParseOptions(
                    delimiter=self.delimiter,
                    quote_char='"' if self.quoted else False,
                    newlines_in_values=self.quoted,
                    invalid_row_handler=on_broken,
                ),
                pa_csv.ConvertOptions(include_columns=list(names), column_types={name: pa.string() for name in names}),
            )

    def _warn_of_open_quotes(self, table: pa.Table) -> None:
        """A quote that is never closed swallows the lines after it; nothing but the line ends in the cell shows it."""
        spans = [pc.match_substring(column, "\n") for column in table.columns] if self.quoted else []
        rows = [row for mask in spans for row in pc.indices_nonzero(mask).to_pylist()]
        if rows:
            logger.warning(
                "%s: %s over several lines (%s); if that is not meant, a quote is not closed",
                self.path,
                counted(len(rows), "cell"),
                ", ".join(self.lines(rows[:3])),
            )

    def lines(self, rows: Sequence[int]) -> list[str]:
        """Name the lines on which data rows begin; cells may span lines, so the file is read again."""
        wanted, found = set(rows), dict[int, int]()
        with io.TextIOWrapper(open_bytes(self.path), encoding=self.encoding, newline="") as text:
            reader = csv.reader(text, delimiter=self.delimiter, quotechar='"' if self.quoted else None)
            row, start = -int(self.header), 1
            while len(found) < len(wanted):
                try:
                    cells = next(reader)
                except (StopIteration, csv.Error):
                    break
                if cells:
                    if row in wanted:
                        found[row] = start
                    row += 1
                start = reader.line_num + 1
        return [f"line {found[row]}" if row in found else f"row {row + 1}" for row in rows]


def _fit(lines: Sequence[str], delimiter: str) -> tuple[int, float, int]:
    """Grade a delimiter: known names in the first line, share of lines with as many cells as it, number of cells."""
    try:
        first, *others = _rows(lines, delimiter)
    except csv.Error:
        return 0, 0.0, 0
    if len(first) == 1 or any("\n" in cell for cell in first):
        return 0, 0.0, 1
    alike = 1 + sum(len(cells) == len(first) for cells in others)
    return sum(map(_is_known, first)), alike / len(lines), len(first)


def _rows(lines: Sequence[str], delimiter: str) -> Iterator[list[str]]:
    """Split lines for sniffing. Between tabs a quote is often a plain character, which must not swallow lines here."""
    if delimiter == "\t":
        return ([cell.strip('"') for cell in line.rstrip("\r\n").split("\t")] for line in lines)
    return csv.reader(lines, delimiter=delimiter)


def has_known_name(names: Sequence[str]) -> bool:
    """Say whether flr knows what one of these columns is by its name."""
    return any(map(_is_known, names))


def _is_known(name: str) -> bool:
    return any(columns.normalized(name) in aliases for aliases in columns.ALIASES.values())
