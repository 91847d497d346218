"""Results and rejects on disk: written beside their place, resumable after a kill at any moment, moved when complete.

A CSV result grows in a part file. Now and then the part is synced and a small state file says how far it counts; what a
kill left behind that point is cut off on resume, so the finished file has the same bytes as one written in one go.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flr_model import columns
from flr_model.artifacts import check_free
from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD
from flr_model.errors import ArtifactError, ConfigError
from flr_model.ranking.recommender import Ranking

SAVE_SECONDS = 1.0
"""At most so much work is repeated after a kill."""

ROW_GROUP = 1 << 16
"""Rows of one row group of Parquet."""

REJECT_COLUMNS = ("line", columns.USER, "reason")


class Reject(NamedTuple):
    """A line or user that cannot be scored, and why."""

    line: int
    user: str
    reason: str


@dataclass
class Counts:
    """What was done so far; saved in the state file.

    Args:
        entries: users and broken lines of the input that are dealt with.
        users: of them, users; each is in ``scored`` or in ``rejected``.
        broken_lines: of them, lines of the long form that were of no use.
        rows: recommendations written.
        unknown: interactions with items that are not known; unknown_samples: three of these items.
        reject_samples: three of the rejects, for messages.
    """

    entries: int = 0
    users: int = 0
    scored: int = 0
    rejected: int = 0
    broken_lines: int = 0
    rows: int = 0
    unknown: int = 0
    unknown_samples: list[str] = field(default_factory=list)
    reject_samples: list[str] = field(default_factory=list)


def result_columns(n_factors: int) -> list[str]:
    """Name the columns of a result, in order."""
    names = [columns.USER, columns.RANK, columns.ITEM, columns.TITLE, columns.SCORE]
    return [*names, *columns.factor_columns(n_factors), columns.COUNTED, columns.BECAUSE_ITEM, columns.BECAUSE_TITLE]


def result_table(catalog: Catalog, users: Sequence[str], ranking: Ranking) -> list[np.ndarray[Any, Any]]:
    """Lay out the rankings of B users as the result's columns, a user's best item first."""
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
    ]


def result_schema(header: Sequence[str]) -> pa.Schema:
    """Return the types of the result's columns."""
    texts = (columns.USER, columns.ITEM, columns.TITLE, columns.BECAUSE_ITEM, columns.BECAUSE_TITLE)
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
    """Appends to a CSV file; numbers with six decimals.

    Args:
        path: the file.
        header: names of the columns.
        size: bytes of an interrupted run to go on from; None begins anew.

    Raises:
        ConfigError: if the file is shorter than ``size``.
    """

    def __init__(self, path: Path, header: Sequence[str], size: int | None = None) -> None:
        if size is None:
            self._file: BinaryIO = path.open("wb")
            self.write([np.asarray([name], object) for name in header])
            return
        if not path.exists() or path.stat().st_size < size:
            raise ConfigError(f"cannot resume: {path} is gone or cut short", hint="start over without --resume")
        self._file = path.open("r+b")
        self._file.truncate(size)
        self._file.seek(size)

    def write(self, table: Sequence[np.ndarray[Any, Any]]) -> None:
        """Append rows, given as columns."""
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(zip(*map(_texts, table), strict=True))
        self._file.write(text.getvalue().encode("utf-8", "replace"))
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
        self._writer = pq.ParquetWriter(path, self._schema)
        self._waiting: list[pa.Table] = []

    def write(self, table: Sequence[np.ndarray[Any, Any]]) -> None:
        """Append rows, given as columns."""
        arrays = [pa.array(values, kind) for values, kind in zip(table, self._schema.types, strict=True)]
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


class Output:
    """The result, the rejects and the state of one run.

    Args:
        out: ``.parquet`` for Parquet, anything else for CSV; the rejects go to ``<out>.rejects.csv``.
        identity: what must be the same for an interrupted run to be resumed.
        overwrite: replace existing files.
        resume: go on where an interrupted run stopped, if there is one.

    Raises:
        ArtifactError: if a result exists and may not be replaced.
        ConfigError: if the run cannot be resumed.
    """

    def __init__(self, out: Path, identity: dict[str, Any], *, overwrite: bool, resume: bool) -> None:
        self.out, self.rejects = out, out.with_name(out.name + ".rejects.csv")
        self.resumable = out.suffix != ".parquet"
        self._part, self._rejects_part = (path.with_name(f".{path.name}.part") for path in (out, self.rejects))
        self._state_path = _state_of(out)
        self._identity = identity
        self._state = self._interrupted() if resume else None
        self.counts = Counts(**self._state["counts"]) if self._state else Counts()
        self.done = bool(self._state and self._state["done"])
        """A killed run had everything written but not all of it moved; only `finish` is left."""
        if not self.done:
            if out.is_dir():
                raise ArtifactError(f"{out} is a folder", hint="name a file with --out, for instance recs.csv")
            for path in (out, self.rejects):
                check_free(path, overwrite=overwrite)

    def start(self, header: Sequence[str]) -> None:
        """Open the part files, where the interrupted run stopped or anew.

        Args:
            header: columns of the result.
        """
        self.out.parent.mkdir(parents=True, exist_ok=True)
        size, rejects_size = (self._state["bytes"], self._state["rejects_bytes"]) if self._state else (None, None)
        if not self._state:
            self._state_path.unlink(missing_ok=True)
        self._sink: Sink = CsvSink(self._part, header, size) if self.resumable else ParquetSink(self._part, header)
        self._rejects_sink = CsvSink(self._rejects_part, REJECT_COLUMNS, rejects_size)
        self._saved = time.monotonic()

    def write(self, table: Sequence[np.ndarray[Any, Any]], rejects: Sequence[Reject]) -> None:
        """Append what one chunk of users gave."""
        self._sink.write(table)
        if rejects:
            self._rejects_sink.write([np.asarray(column, object) for column in zip(*rejects, strict=True)])

    def commit(self, counts: Counts) -> None:
        """Say that everything up to these counts is written; the state is saved when it is due."""
        self.counts = counts
        if self.resumable and time.monotonic() - self._saved >= SAVE_SECONDS:
            self._save(done=False)
            self._saved = time.monotonic()

    def finish(self) -> None:
        """Move the complete files to their places; no rejects, no rejects file."""
        if not self.done:
            if self.resumable:
                self._save(done=True)
            self._close()
        if self.counts.rejected or self.counts.broken_lines:
            _move(self._rejects_part, self.rejects)
        else:
            self._rejects_part.unlink(missing_ok=True)
            self.rejects.unlink(missing_ok=True)
        _move(self._part, self.out)
        self._state_path.unlink(missing_ok=True)

    def stop(self) -> None:
        """End an interrupted run: leave what `resume` can go on from."""
        if self.resumable:
            self._close()
        else:
            self.discard()

    def discard(self) -> None:
        """Remove everything but earlier results."""
        self._close()
        for path in (self._state_path, self._part, self._rejects_part):
            path.unlink(missing_ok=True)

    def _close(self) -> None:
        self._sink.close()
        self._rejects_sink.close()

    def _save(self, *, done: bool) -> None:
        body = {
            "identity": self._identity,
            "done": done,
            "bytes": self._sink.sync(),
            "rejects_bytes": self._rejects_sink.sync(),
            "counts": asdict(self.counts),
        }
        temporary = self._state_path.with_suffix(".tmp")
        temporary.write_text(json.dumps(body), encoding="utf-8")
        os.replace(temporary, self._state_path)

    def _interrupted(self) -> dict[str, Any] | None:
        if not self.resumable:
            raise ConfigError("--resume works for CSV results only", hint="name an --out that ends in .csv")
        try:
            state: dict[str, Any] = json.loads(self._state_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            raise ArtifactError(f"{self._state_path} is damaged", hint="start over without --resume") from None
        saved, now = state["identity"], json.loads(json.dumps(self._identity))
        changed = [key for key in now if saved.get(key) != now[key]]
        if changed:
            raise ConfigError(
                f"cannot resume {self.out}: changed since the interrupted run: {', '.join(changed)}",
                hint="run with the same files and settings, or start over without --resume",
            )
        return state


def interrupted(out: Path) -> bool:
    """Tell whether an interrupted run left a state from which this result can be finished."""
    return _state_of(out).exists()


def _state_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.state.json")


def _texts(values: np.ndarray[Any, Any]) -> list[Any]:
    if values.dtype.kind != "f":
        return values.tolist()  # type: ignore[no-any-return]
    return [f"{value:.6g}" for value in values.tolist()]


def _move(part: Path, place: Path) -> None:
    if part.exists():
        os.replace(part, place)
