"""Any table a person may have: delimited text, Parquet, one JSON object a line, or a folder of such parts.

The content decides, not the name of the file. A table tells its columns first, and gives its rows one after the other,
of the wanted columns only; a block of them is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flr_model.errors import DataError
from flr_model.files.csvfile import CsvFile
from flr_model.files.dialect import distinct
from flr_model.files.frames import FrameTable
from flr_model.files.jsonfile import JsonFile
from flr_model.files.reading import Reading
from flr_model.files.rows import Row
from flr_model.files.textfiles import GZIP_MAGIC, magic, open_bytes, readable

SAMPLE = 1000
"""Rows that tell what a column holds."""

_BATCH = 4096


class Table(Protocol):
    """A file that knows its columns and gives the wanted ones."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns, distinct."""

    @property
    def about(self) -> str:
        """How it is read, for reports and messages."""

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """Give the named cells of every row, in order."""


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
            DataError: if the file is damaged, has no rows or no columns, or two columns of one name.
        """
        try:
            with pq.ParquetFile(path) as file:
                rows, names = file.metadata.num_rows, tuple(file.schema_arrow.names)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{path} is not a readable Parquet file: {error}", hint="make the file again") from None
        if rows == 0 or not names:
            raise DataError(f"{path} has no {'columns' if rows else 'rows'}", hint="check how the file was made")
        if distinct(names) != names:
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{path} has several columns named {twice!r}", hint="give each column a name of its own")
        return cls(path, names)

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """Give the named cells of every row, as Python values.

        Raises:
            DataError: if the file is damaged, or holds values that Python has no type for.
        """
        line, wanted = 0, list(dict.fromkeys(names))
        with readable(self.path), pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=_BATCH, columns=wanted):
                for cells in zip(*(_values(batch.column(name)) for name in names), strict=True):
                    line += 1
                    yield Row(line, list(cells))


@dataclass(frozen=True)
class Parts:
    """The part files that Spark and others write into a folder, read one after the other.

    Args:
        path: the folder.
        parts: its files, in order of their names.
    """

    path: Path
    parts: tuple[Table, ...]

    @classmethod
    def open(cls, path: Path, reading: Reading) -> Parts:
        """Open all parts; names that begin with "_" or "." are no parts.

        Raises:
            DataError: if there are none, or their columns differ.
        """
        with readable(path):
            inside = sorted(entry for entry in path.iterdir() if entry.name[0] not in "_.")
        if not inside:
            raise DataError(f"{path} cannot be read: it is a folder without part files", hint="name a file")
        if folders := [entry.name for entry in inside if entry.is_dir()]:
            raise DataError(
                f"{path} is a folder with folders in it ({', '.join(folders[:3])})",
                hint="name a file, or a folder of part files",
            )
        parts = tuple(open_table(entry, reading) for entry in inside if entry.stat().st_size)
        if not parts:
            raise DataError(f"{path} has only empty files", hint="check how the folder was made")
        for part in parts:
            if part.names != parts[0].names:
                raise DataError(
                    f"{part.path} has other columns ({', '.join(part.names[:8])}) than {parts[0].path.name} "
                    f"({', '.join(parts[0].names[:8])})",
                    hint="name one file, or a folder with the parts of one table alone",
                )
        return cls(path, parts)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of every part."""
        return self.parts[0].names

    @property
    def about(self) -> str:
        """How it is read, for reports and messages."""
        return f"{len(self.parts)} part files, {self.parts[0].about}"

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """Give the named cells of every row; lines are counted in each part, which problems name."""
        for part in self.parts:
            for row in part.rows(names):
                yield row._replace(problem=f"{part.path.name}: {row.problem}") if row.problem else row


def open_table(path: Path, reading: Reading | None = None) -> Table:
    """Open a file by its content, or a folder of part files.

    Args:
        path: the file.
        reading: what is known of it.

    Raises:
        DataError: if it is missing, empty, damaged, ambiguous, or none of the forms flr reads.
    """
    reading = reading or Reading()
    if path.is_dir():
        return Parts.open(path, reading)
    if magic(path) == b"PAR1":
        return ParquetFile.open(path)
    with readable(path), open_bytes(path) as stream:
        start = stream.read(4).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"{", b"[")):
        return JsonFile.open(path, reading)
    return CsvFile.open(path, reading)


def sample(table: Table, name: str, rows: int = SAMPLE) -> list[Any]:
    """Return the first cells of a column."""
    return [row.cells[0] for row in islice(table.rows([name]), rows) if row.cells is not None]


def count_rows(table: Table) -> int | None:
    """Return about how many rows there are, for progress; None where counting would cost as much as reading."""
    if isinstance(table, Parts):
        counts = [count_rows(part) for part in table.parts]
        return sum(n for n in counts if n is not None) if None not in counts else None
    if isinstance(table, FrameTable):
        return len(table.frame)
    if isinstance(table, ParquetFile):
        return int(pq.read_metadata(table.path).num_rows)
    if magic(table.path).startswith(GZIP_MAGIC):
        return None
    with readable(table.path), table.path.open("rb") as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    return max(lines - (table.dialect.header if isinstance(table, CsvFile) else 0), 1)


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":  # whose values would be those of pandas
        column = pc.cast(column, pa.timestamp("us", column.type.tz), safe=False)
    values: list[Any] = column.to_pylist()
    return values
