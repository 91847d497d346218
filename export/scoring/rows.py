"""Rows of a table one after the other, each with its line; only the present block of them is in memory.

What a file is, and what its columns are called, `flr_model.files.tables` finds out, for scoring as for preparing.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from flr_model.errors import DataError
from flr_model.files.csvfile import CsvFile
from flr_model.files.tables import ParquetFile, Table
from flr_model.files.textfiles import GZIP_MAGIC, magic, open_bytes

LARGEST_CELL = 1 << 26
"""Characters of one cell; a quotation mark that is never closed ends here instead of filling the memory."""

_BLOCK = 4096


class Row(NamedTuple):
    """One row.

    Args:
        line: where it begins, counted from 1 (a CSV's header is a line too; elsewhere only rows count).
        cells: the wanted cells, text from CSV and Python values from Parquet; None for a broken line.
        problem: what is wrong with a broken line.
    """

    line: int
    cells: list[Any] | None
    problem: str = ""


def stream_rows(table: Table, names: Sequence[str]) -> Iterator[Row]:
    """Give the named cells of every row, in order.

    Raises:
        DataError: if the file is damaged.
    """
    try:
        yield from _csv_rows(table, names) if isinstance(table, CsvFile) else _arrow_rows(table, names)
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{table.path} is damaged: {error}", hint="copy or make the file again") from None


def count_rows(table: Table) -> int | None:
    """Return about how many rows there are, for progress; None where counting would cost as much as reading."""
    if isinstance(table, ParquetFile):
        return int(pq.read_metadata(table.path).num_rows)
    if magic(table.path).startswith(GZIP_MAGIC):
        return None
    with table.path.open("rb") as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    return max(lines - (table.skip if isinstance(table, CsvFile) else 0), 1)


def _csv_rows(table: CsvFile, names: Sequence[str]) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_CELL))
    places = [table.names.index(name) for name in names]
    with io.TextIOWrapper(open_bytes(table.path), encoding=table.encoding, newline="") as text:
        reader = csv.reader(text, delimiter=table.delimiter, quotechar='"' if table.quoted else None)
        header_passed = not table.header
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(line, None, f"not CSV: {error}")
                continue
            if not cells or (len(cells) == 1 < len(table.names) and not cells[0].strip()):
                continue  # blank lines are no rows
            if not header_passed:
                header_passed = True
            else:
                yield _checked(line, reader.line_num, cells, len(table.names), places)


def _checked(line: int, last: int, cells: list[str], n_columns: int, places: list[int]) -> Row:
    """Refuse a row of the wrong width, or whose wanted cells go over lines: an open quote swallows them."""
    swallowed = f", up to line {last}" if last > line else ""
    if len(cells) != n_columns:
        return Row(line, None, f"{len(cells)} cells instead of {n_columns}{swallowed}")
    wanted = [cells[place] for place in places]
    if swallowed and any("\n" in cell or "\r" in cell for cell in wanted):
        return Row(line, None, f"a quote is not closed{swallowed}")
    return Row(line, wanted)


def _arrow_rows(table: Table, names: Sequence[str]) -> Iterator[Row]:
    wanted = list(dict.fromkeys(names))
    batches = (
        pq.ParquetFile(table.path).iter_batches(batch_size=_BLOCK, columns=wanted)
        if isinstance(table, ParquetFile)
        else table.read(wanted).to_batches(max_chunksize=_BLOCK)
    )
    line = 0
    for batch in batches:
        for cells in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
            line += 1
            yield Row(line, list(cells))
