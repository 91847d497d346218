"""Results and rejects on disk: written beside their place, resumable after a kill at any moment, moved when complete.

A CSV result grows in a part file. Now and then the part is synced and a small state file says how far it counts; what a
kill left behind that point is cut off on resume, so the finished file has the same bytes as one written in one go.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flr_export.scoring.sinks import CsvSink, ParquetSink, Sink, fresh
from flr_model import columns
from flr_model.errors import ArtifactError, ConfigError, NothingToDo
from flr_model.replacing import temporary
from flr_model.writing import FILE, check_target, claim

SAVE_SECONDS = 1.0
"""At most so much work is repeated after a kill."""

FORMS = {"": "CSV", ".csv": "CSV", ".txt": "CSV", ".parquet": "Parquet"}
"""What is written under a name with this ending; other endings promise what flr does not write."""

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
        popular: of the scored, users who got the most popular items; popular_samples: three of them, and why.
        broken_lines: of them, lines of the long form that were of no use.
        rows: recommendations written.
        unknown: interactions with items that are not known; unknown_samples: three of these items.
        reject_samples: three of the rejects, for messages.
    """

    entries: int = 0
    users: int = 0
    scored: int = 0
    popular: int = 0
    popular_samples: list[str] = field(default_factory=list)
    rejected: int = 0
    broken_lines: int = 0
    rows: int = 0
    unknown: int = 0
    unknown_samples: list[str] = field(default_factory=list)
    reject_samples: list[str] = field(default_factory=list)


class Output:
    """The result, the rejects and the state of one run; `claimed` makes it.

    Args:
        out: the result, its place locked.
        identity: what must be the same for an interrupted run to be resumed.
        resume: go on where an interrupted run stopped, if there is one.

    Raises:
        ArtifactError: if the state of the interrupted run is damaged.
        ConfigError: if the run cannot be resumed.
    """

    def __init__(self, out: Path, identity: dict[str, Any], *, resume: bool) -> None:
        self.out, self.rejects = out, rejects_of(out)
        self.resumable = FORMS[out.suffix.lower()] == "CSV"
        self._part, self._rejects_part = (path.with_name(f".{path.name}.part") for path in (out, self.rejects))
        self._state_path = out.with_name(f".{out.name}.state.json")
        self._identity = identity
        self._state = self._interrupted() if resume else None
        self.counts = Counts(**self._state["counts"]) if self._state else Counts()
        self.done = bool(self._state and self._state["done"])
        """A killed run had everything written but not all of it moved; only `finish` is left."""
        self.interrupted = self._state is not None

    def start(self, header: Sequence[str], *, escape_formulas: bool = False) -> None:
        """Open the part files, where the interrupted run stopped or anew.

        Args:
            header: columns of the result.
            escape_formulas: put a ' before texts of CSV files that a spreadsheet would take for formulas.
        """
        csv_sink = partial(CsvSink, escape_formulas=escape_formulas)
        size, rejects_size = (self._state["bytes"], self._state["rejects_bytes"]) if self._state else (None, None)
        if not self._state:
            self._state_path.unlink(missing_ok=True)
        self._sink: Sink = csv_sink(self._part, header, size) if self.resumable else ParquetSink(self._part, header)
        self._rejects_sink = csv_sink(self._rejects_part, REJECT_COLUMNS, rejects_size)
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
        new = temporary(self.out)
        with fresh(new) as file:
            file.write(json.dumps(body).encode())
        os.replace(new, self._state_path)

    def _interrupted(self) -> dict[str, Any] | None:
        if not self.resumable:
            raise ConfigError("--resume works for CSV results only", hint="name an --out that ends in .csv")
        try:
            state: dict[str, Any] = json.loads(self._state_path.read_text(encoding="utf-8"))
            saved = dict(state["identity"])
            Counts(**state["counts"])
            if not (isinstance(state["done"], bool) and min(state["bytes"], state["rejects_bytes"]) >= 0):
                raise ValueError
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise ArtifactError(f"{self._state_path} is damaged", hint="start over without --resume") from None
        now = json.loads(json.dumps(self._identity))
        changed = [key for key in now if saved.get(key) != now[key]]
        if changed:
            raise ConfigError(
                f"cannot resume {self.out}: changed since the interrupted run: {', '.join(changed)}",
                hint="run with the same files and settings, or start over without --resume",
            )
        return state


@contextmanager
def claimed(
    out: Path,
    identity: dict[str, Any],
    *,
    inputs: Iterable[Path | None] = (),
    overwrite: bool = False,
    resume: bool = False,
) -> Iterator[Output]:
    """Reserve the places of a result and its rejects for the length of a block.

    Args:
        out: ``.parquet`` for Parquet, ``.csv``, ``.txt`` or no ending for CSV; rejects go to ``<out>.rejects.csv``.
        identity: what must be the same for an interrupted run to be resumed.
        inputs: what the command reads.
        overwrite: replace existing files.
        resume: go on where an interrupted run stopped, if there is one.

    Raises:
        ArtifactError: if a result exists and may not be replaced, cannot be written or is just being written.
        ConfigError: if the run cannot be resumed, the result would replace an input, or its name promises another form.
        NothingToDo: if the result to resume is there and nothing was interrupted.
    """
    if out.suffix.lower() not in FORMS:
        raise ConfigError(
            f"--out {out}: a result is written as CSV or Parquet, not as {out.suffix}",
            hint="name a file that ends in .csv or .parquet, and convert or compress it afterwards",
        )
    inputs = list(inputs)
    with (
        claim(out, FILE, inputs=inputs, overwrite=overwrite or resume) as place,
        claim(rejects_of(place.path), FILE, inputs=inputs, overwrite=overwrite or resume),
    ):
        output = Output(place.path, identity, resume=resume)
        if resume and not (overwrite or output.interrupted) and place.path.exists():
            raise NothingToDo(f"{out} is finished: nothing to resume", hint="add --overwrite to score again")
        if not (overwrite or output.done):
            for path in (out, output.rejects):
                check_target(path, FILE)
        yield output


def rejects_of(out: Path) -> Path:
    """Return the place of a result's rejects."""
    return out.with_name(out.name + ".rejects.csv")


def _move(part: Path, place: Path) -> None:
    if part.exists():
        os.replace(part, place)
