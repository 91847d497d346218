"""The rows of a result: their columns, and the files they are appended to."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flr_model import columns
from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD
from flr_model.errors import ConfigError
from flr_model.ranking.recommender import Ranking

ROW_GROUP = 1 << 16
"""Rows of one row group of Parquet."""

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""With these a text begins that a spreadsheet may take for a formula."""


def result_columns(n_factors: int, *, source: bool = False) -> list[str]:
    """Name the columns of a result, in order; the last one, where lists may come from elsewhere, says from where."""
    names = [columns.USER, columns.RANK, columns.ITEM, columns.TITLE, columns.SCORE]
    names += [*columns.factor_columns(n_factors), columns.COUNTED, columns.BECAUSE_ITEM, columns.BECAUSE_TITLE]
    return [*names, columns.SOURCE] if source else names


def result_table(
    catalog: Catalog, users: Sequence[str], ranking: Ranking, sources: Sequence[str] | None = None
) -> list[np.ndarray[Any, Any]]:
    """Lay out the rankings of B users as the result's columns, a user's best item first.

    Args:
        catalog: M items.
        users: (B,) their ids.
        ranking: of these users.
        sources: (B,) of the column of that name; None leaves it out.
    """
    row, place = np.nonzero(ranking.items != PAD)
    items = ranking.items[row, place]
    because = ranking.because[row, place]
    reasons = [np.where(because == PAD, "", texts[because]) for texts in (catalog.item_ids, catalog.titles)]
    return [
        np.asarray(users, object)[row],
        place + 1,
        catalog.item_ids[items],
        catalog.titles[items],
        np.exp(ranking.scores[row, place]),
        *ranking.shares[row, place].T,
        ranking.counted[row, place],
        *reasons,
        *([] if sources is None else [np.asarray(sources, object)[row]]),
    ]


def result_schema(header: Sequence[str]) -> pa.Schema:
    """Return the types of the result's columns."""
    texts = (columns.USER, columns.ITEM, columns.TITLE, columns.BECAUSE_ITEM, columns.BECAUSE_TITLE, columns.SOURCE)
    kinds = {columns.RANK: pa.int32(), **dict.fromkeys(texts, pa.string())}
    return pa.schema([(name, kinds.get(name, pa.float32())) for name in header])


class Sink(Protocol):
    """Where result rows go."""

    def write(self, table: Sequence[np.ndarray[Any, Any]]) -> None:
        """Append rows, given as columns."""

    def sync(self) -> int:
        """Bring everything to disk and return the size in bytes."""

    def close(self) -> None:
        """End the file."""


class CsvSink:
    """Appends to a CSV file; numbers with six digits, no number as nothing.

    Args:
        path: the file.
        header: names of the columns.
        size: bytes of an interrupted run to go on from; None begins anew.
        escape_formulas: put a ' before texts that a spreadsheet would take for formulas.

    Raises:
        ConfigError: if the file is shorter than ``size``.
    """

    def __init__(
        self, path: Path, header: Sequence[str], size: int | None = None, *, escape_formulas: bool = False
    ) -> None:
        self._texts = _harmless_texts if escape_formulas else _texts
        if size is None:
            self._file: BinaryIO = fresh(path)
            self.write([np.asarray([name], object) for name in header])
            return
        if path.is_symlink() or not path.is_file() or path.stat().st_size < size:
            raise ConfigError(f"cannot resume: {path} is gone or cut short", hint="start over without --resume")
        self._file = path.open("r+b")
        self._file.truncate(size)
        self._file.seek(size)

    def write(self, table: Sequence[np.ndarray[Any, Any]]) -> None:
        """Append rows, given as columns."""
        lines: list[str] = []
        # Before Python 3.13 a carriage return inside a text is quoted only where lines end with one.
        writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n")
        writer.writerows(zip(*map(self._texts, table), strict=True))
        self._file.write("".join(f"{line[:-2]}\n" for line in lines).encode("utf-8", "replace"))
        self._file.flush()  # whoever follows the file sees whole chunks

    def sync(self) -> int:
        """Bring everything to disk and return the size in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """End the file."""
        self._file.close()


class ParquetSink:
    """Writes a Parquet file in large row groups."""

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        self._schema = result_schema(header)
        self._file = fresh(path)
        self._writer = pq.ParquetWriter(self._file, self._schema)
        self._waiting: list[pa.Table] = []

    def write(self, table: Sequence[np.ndarray[Any, Any]]) -> None:
        """Append rows, given as columns."""
        arrays = [
            pa.array(values, kind, from_pandas=True) for values, kind in zip(table, self._schema.types, strict=True)
        ]
        self._waiting.append(pa.Table.from_arrays(arrays, schema=self._schema))
        if sum(len(waiting) for waiting in self._waiting) >= ROW_GROUP:
            self.sync()

    def sync(self) -> int:
        """Write what waits; a Parquet file cannot be continued, so its size is of no use."""
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
        self._waiting = []
        return 0

    def close(self) -> None:
        """End the file."""
        self.sync()
        self._writer.close()
        self._file.close()


def fresh(path: Path) -> BinaryIO:
    """Open a new file; what has its name, be it a link to another file, is removed and not written to."""
    path.unlink(missing_ok=True)
    return path.open("xb")


def _texts(values: np.ndarray[Any, Any]) -> list[Any]:
    if values.dtype.kind != "f":
        return values.tolist()  # type: ignore[no-any-return]
    return [f"{value:.6g}" if value == value else "" for value in values.tolist()]


def _harmless_texts(values: np.ndarray[Any, Any]) -> list[Any]:
    texts = _texts(values)
    if values.dtype.kind == "f":
        return texts
    return [f"'{text}" if isinstance(text, str) and text.startswith(FORMULAS) else text for text in texts]
