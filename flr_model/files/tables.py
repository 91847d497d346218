"""Any table a person may have: delimited text, Parquet, or one JSON object a line; and which column is which.

The content decides, not the name of the file. A table tells its columns first; only the wanted ones are read.
"""

from __future__ import annotations

import ast
import difflib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flr_model import columns
from flr_model.errors import DataError, counted
from flr_model.files.csvfile import CsvFile
from flr_model.files.textfiles import find_encoding, magic, open_bytes

FLAGS = {
    columns.USER: "--user-col",
    columns.ITEM: "--item-col",
    columns.TIME: "--time-col",
    columns.TITLE: "--title-col",
    columns.HISTORY: "--history-col",
    columns.HISTORY_TIMES: "--history-time-col",
}
"""The flag that names a column of the user's files."""

_SAMPLED_RECORDS = 1000
_BATCH = 1 << 16


class Table(Protocol):
    """A file that knows its columns and reads the wanted ones."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns."""

    @property
    def about(self) -> str:
        """How it is read, for reports and messages."""

    def read(self, names: Sequence[str]) -> pa.Table:
        """Read the named columns."""

    def lines(self, rows: Sequence[int]) -> list[str]:
        """Name the places of data rows (counted from 0) as a person finds them."""


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file."""

    path: Path
    names: tuple[str, ...]
    about: str = "Parquet"

    @classmethod
    def open(cls, path: Path) -> ParquetFile:
        """Read the schema.

        Raises:
            DataError: if the file is damaged or has no rows.
        """
        try:
            with pq.ParquetFile(path) as file:
                rows, names = file.metadata.num_rows, tuple(file.schema_arrow.names)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is not a readable Parquet file: {error}", hint="make the file again") from None
        if rows == 0:
            raise DataError(f"{path} has no rows", hint="check how the file was made")
        return cls(path, names)

    def read(self, names: Sequence[str]) -> pa.Table:
        """Read the named columns, with the types they have."""
        return pq.read_table(self.path, columns=list(names))

    def lines(self, rows: Sequence[int]) -> list[str]:
        """Name rows, counted from 1."""
        return [f"row {row + 1}" for row in rows]


@dataclass(frozen=True)
class JsonFile:
    """One object a line: JSON, or the Python dictionaries of the 2014 Amazon files."""

    path: Path
    names: tuple[str, ...]
    encoding: str
    about: str = "JSON Lines"

    @classmethod
    def open(cls, path: Path) -> JsonFile:
        """Take the names from the first records.

        Raises:
            DataError: if the file is damaged or its first line is not an object.
        """
        encoding = find_encoding(path)
        names: dict[str, None] = {}
        for number, record in islice(_records(path, encoding), _SAMPLED_RECORDS):
            if record is None and not names:
                raise DataError(
                    f"{path}: line {number} is not a JSON object", hint="write one JSON object per line, or a CSV file"
                )
            names.update(dict.fromkeys(record or ()))
        return cls(path, tuple(names), encoding)

    def read(self, names: Sequence[str]) -> pa.Table:
        """Read the named fields as strings; lists as JSON; null where a record lacks the field.

        Raises:
            DataError: if lines are not objects; all of them are counted.
        """
        records = _records(self.path, self.encoding)
        chunks: dict[str, list[pa.Array]] = {name: [] for name in names}
        broken: list[int] = []
        while batch := list(islice(records, _BATCH)):
            broken += [number for number, record in batch if record is None]
            for name, column in chunks.items():
                column.append(
                    pa.array([_cell(record.get(name)) for _, record in batch if record is not None], pa.string())
                )
        if broken:
            raise DataError(
                f"{self.path}: no JSON object in {counted(len(broken), 'line')} ({', '.join(map(str, broken[:3]))})",
                hint="remove or repair these lines",
            )
        return pa.table({name: pa.chunked_array(column) for name, column in chunks.items()})

    def lines(self, rows: Sequence[int]) -> list[str]:
        """Name the lines of records; blank lines do not count as records."""
        records = _records(self.path, self.encoding)
        numbers = [number for number, _ in islice(records, max(rows, default=-1) + 1)]
        return [f"line {numbers[row]}" for row in rows]


def open_table(path: Path) -> Table:
    """Open a file by its content.

    Raises:
        DataError: if it is missing, empty, damaged, or none of the forms flr reads.
    """
    if magic(path) == b"PAR1":
        return ParquetFile.open(path)
    with open_bytes(path) as stream:
        try:
            start = stream.read(4).removeprefix(b"\xef\xbb\xbf").lstrip()
        except (EOFError, OSError):
            start = b""  # damaged gzip: told apart, with its message, by the reader below
    return JsonFile.open(path) if start.startswith((b"{", b"[")) else CsvFile.open(path)


def find_columns(
    table: Table,
    required: Sequence[str],
    optional: Sequence[str] = (),
    given: Mapping[str, str] | None = None,
    *,
    elsewhere: Sequence[str] = (),
) -> dict[str, str]:
    """Find the columns of a table: by the name the user gave, else by the names flr knows.

    Args:
        table: the file.
        required: columns (as `flr_model.columns` names them) that must be there.
        optional: columns that may be there; one the user named must be.
        given: the user's names.
        elsewhere: columns whose given name may be that of another file; names flr knows serve where it is not here.

    Returns:
        Name in the file for each column that was found.

    Raises:
        DataError: if columns are missing, all of them in one message, with the nearest names.
    """
    spelled = {columns.normalized(name): name for name in reversed(table.names)}
    found, missing = {}, []
    for column in (*required, *optional):
        name = (given or {}).get(column)
        wanted = [] if name is None else [columns.normalized(name), columns.normalized(name).split(":")[0]]
        if name is None or column in elsewhere:
            wanted += columns.ALIASES[column]
        match = next((spelled[alias] for alias in wanted if alias in spelled), None)
        if match is not None:
            found[column] = match
        elif name is not None or column in required:
            missing.append(column)
    if missing:
        problems = "; ".join(_missing(column, (given or {}).get(column), table) for column in missing)
        raise DataError(f"{table.path} {problems}. {_columns_of(table)}", hint=_way_out(missing, required, table))
    return found


def in_rows(table: Table, rows: Sequence[int] | npt.NDArray[np.int64], column: pa.ChunkedArray | None = None) -> str:
    """Say in how many rows of a table, and show three: ``in 2 rows (line 3: 'x', line 5: 'y')``.

    Args:
        table: the file.
        rows: numbers of rows, from 0, at least one.
        column: the cells to show; without it only the places are shown.
    """
    first = [int(row) for row in rows[:3]]
    places = table.lines(first)
    if column is not None:
        places = [f"{place}: {_short(column[row].as_py())}" for place, row in zip(places, first, strict=True)]
    return f"in {counted(len(rows), 'row')} ({', '.join(places)})"


def _short(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 60 else text[:57] + "..."


def _missing(column: str, name: str | None, table: Table) -> str:
    if name is not None:
        near = difflib.get_close_matches(name, table.names, n=1)
        return f"has no column {name!r} ({FLAGS[column]})" + (f", did you mean {near[0]!r}?" if near else "")
    if column == columns.HISTORY:  # what resembles it is as likely a list of ratings or titles
        return f"has no {column} column (such as {columns.ALIASES[column][0]})"
    spelled = {columns.normalized(known): known for known in table.names}
    near = difflib.get_close_matches(column, spelled, n=1) or difflib.get_close_matches(
        column.split("_")[0], spelled, n=1
    )
    return f"has no {column} column" + (f", did you mean {spelled[near[0]]!r}?" if near else "")


def _columns_of(table: Table) -> str:
    names = ", ".join(map(repr, table.names[:20])) + (", ..." if len(table.names) > 20 else "")
    if isinstance(table, CsvFile) and len(table.names) == 1:
        return f"It has one column, {names} ({table.about}): the delimiter may be none of comma, tab, semicolon and |"
    return f"Its columns are {names} ({table.about})"


def _way_out(missing: Sequence[str], required: Sequence[str], table: Table) -> str:
    if isinstance(table, CsvFile) and len(table.names) == 1:
        return "write the file with commas, tabs, semicolons or | between the cells"
    if isinstance(table, CsvFile) and not table.header:
        flags = [flag for column, flag in FLAGS.items() if column in (*required, *missing)]
        numbered = " ".join(f"{flag} {number}" for number, flag in enumerate(flags, start=1))
        return f"add a header line, or name columns by number, for instance {numbered}"
    return f"name the column with {', '.join(FLAGS[column] for column in missing)}"


def _records(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield each line that is not blank with its number; None where it is not an object."""
    with io.TextIOWrapper(open_bytes(path), encoding=encoding) as text:
        for number, line in enumerate(text, start=1):
            if line.strip():
                yield number, _record(line)


def _record(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        try:
            value = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _cell(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is valid JSON, but no text
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value) if isinstance(value, (list, tuple, dict)) else str(value)
