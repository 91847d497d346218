"""Rows of a table, and the account of those that are left out."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from flr_model.errors import DataError, pluralize

MOST_BROKEN = 0.1
"""A file with a larger share of rows that cannot be read is refused: it is read in the wrong way."""


class Row(NamedTuple):
    """One row.

    Args:
        line: where it begins, counted from 1 (a CSV's header is a line too; in Parquet only rows count).
        cells: the wanted cells, text from CSV and Python values from elsewhere; None for a broken row.
        problem: what is wrong with a broken row.
    """

    line: int
    cells: list[Any] | None
    problem: str = ""


@dataclass
class Rejects:
    """The rows of one file that are left out, with the reason of each.

    Args:
        path: the file.
        reasons: distinct reasons. lines: of the rejects. codes: which reason each has.
        rows: that are left out; one may have several reasons.
        broken: of them, those whose cells cannot be read, unlike those that only lack an id.
    """

    path: Path
    reasons: dict[tuple[str, str], int] = field(default_factory=dict)
    lines: array[int] = field(default_factory=lambda: array("q"))
    codes: array[int] = field(default_factory=lambda: array("i"))
    rows: int = 0
    broken: int = 0

    def __len__(self) -> int:
        return self.rows

    def add(self, line: int, what: str, cell: str = "", *, broken: bool = True) -> None:
        """Leave out a row: what is wrong, and the cell in question as `flr_model.files.cells.shown` writes it."""
        self.rows += not self.lines or self.lines[-1] != line
        self.lines.append(line)
        self.codes.append(self.reasons.setdefault((what, cell), len(self.reasons)))
        self.broken += broken

    def check(self, rows: int, *, hint: str, strict: bool = False) -> None:
        """Refuse the file if too much of it cannot be read.

        Args:
            rows: of the file, rejects included.
            hint: the way out.
            strict: at the first reject.

        Raises:
            DataError: with all kinds of problems of the file.
        """
        if self.broken > MOST_BROKEN * rows or (strict and len(self)):
            raise DataError(f"{self.path}: {self.summary()}", hint=hint)

    def summary(self) -> str:
        """Count the rejects by what is wrong, with three places of each: ``no user id in 2 rows (line 3, line 5)``."""
        kinds: dict[str, list[int]] = {}
        shown: dict[str, list[str]] = {}
        texts = list(self.reasons)
        for line, code in zip(self.lines, self.codes, strict=True):
            what, cell = texts[code]
            count = kinds.setdefault(what, [0])
            count[0] += 1
            if count[0] <= 3:
                shown.setdefault(what, []).append(f"line {line}: {cell}" if cell else f"line {line}")
        return "; ".join(f"{what} in {pluralize(n, 'row')} ({', '.join(shown[what])})" for what, (n,) in kinds.items())


def write_rejects(path: Path, files: Iterable[Rejects]) -> None:
    """Write the rejects of some files as CSV (file, line, reason); no file where there are none."""
    files = [rejects for rejects in files if len(rejects)]
    if not files:
        return
    with path.open("w", newline="", encoding="utf-8", errors="replace") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("file", "line", "reason"))
        for rejects in files:
            reasons = [f"{what}: {cell}" if cell else what for what, cell in rejects.reasons]
            writer.writerows(
                (rejects.path.name, line, reasons[code])
                for line, code in zip(rejects.lines, rejects.codes, strict=True)
            )
