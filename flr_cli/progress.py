"""Progress as the command line shows it: bars on a terminal, else a line now and then; lines for the log file too."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.progress import Task as BarTask
from rich.table import Column
from rich.text import Text

from flr_cli.console import MESSAGES, STAGES, cell, err
from flr_model.progress import Task
from flr_model.steering import clean

LINE_SECONDS = 30.0
"""A line of progress comes at least as often, while units are counted."""
LINE_SHARE = 0.1
"""And after this share of the units,"""
LEAST_SECONDS = 5.0
"""unless the last line, or the job's start, is younger."""


class ConsoleProgress:
    """The progress that the library's jobs are given.

    A bar goes away when its job ends. Where stderr is not a terminal, and in the log file, a job that lasts is a line
    every 30 seconds or 10 %.
    """

    def __init__(self) -> None:
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            _Rate(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=err,
            transient=True,
            expand=True,
            disable=not err.is_terminal or MESSAGES.level > logging.INFO,
        )

    @contextmanager
    def task(self, total: int | None, unit: str) -> Iterator[Task]:
        """Begin a job of ``total`` units (None: unknown) that ends with the block."""
        bar = self.bars.add_task(clean(unit), total=total, unit=unit, figures="")
        self.bars.start()
        lines = _Lines(total, unit)
        try:
            yield _ShownTask(self.bars, bar, lines)
        finally:
            self.bars.remove_task(bar)
            if not self.bars.tasks:
                self.bars.stop()
        lines.end()


class _ShownTask:
    """One job, as bar and as lines."""

    def __init__(self, bars: Bars, bar: TaskID, lines: _Lines) -> None:
        self._bars, self._bar, self._lines = bars, bar, lines

    def advance(self, amount: int, **figures: float | str) -> None:
        """Count units as done."""
        shown = clean("  ".join(f"{name} {cell(value)}" for name, value in figures.items()))
        if shown:
            self._bars.update(self._bar, figures=shown)
        self._bars.advance(self._bar, amount)
        self._lines.advance(amount, shown)


class _Lines:
    """The lines of one job."""

    def __init__(self, total: int | None, unit: str) -> None:
        self._total, self._unit = total, unit
        self._done = self._line_done = 0
        self._began = self._line_at = time.monotonic()
        self._first: tuple[int, float] | None = None
        """Units and time of the first report, which for a resumed job holds all that lies behind it."""

    def advance(self, amount: int, figures: str) -> None:
        """Count units as done, and log a line when one is due."""
        now = time.monotonic()
        self._done += amount
        if self._first is None:
            self._first = self._done, now
        share = (self._done - self._line_done) / self._total if self._total else 0.0
        waited = now - self._line_at
        if waited >= LINE_SECONDS or (waited >= LEAST_SECONDS and share >= LINE_SHARE):
            self._line_at, self._line_done = now, self._done
            STAGES.info("%s", self._line(self._speed(now), figures))

    def end(self) -> None:
        """Log how long it took, if lines were logged before."""
        if self._line_at != self._began:
            STAGES.info("%s: %s in %s", self._unit, f"{self._done:,}", duration(time.monotonic() - self._began))

    def _speed(self, now: float) -> float:
        units, at = self._first or (0, now)
        return (self._done - units) / (now - at) if now > at else 0.0

    def _line(self, speed: float, figures: str) -> str:
        parts = [f"{self._done:,}" + (f" of {self._total:,} ({self._done / self._total:.0%})" if self._total else "")]
        if speed:
            parts.append(f"{speed:,.1f}/s")
        if speed and self._total:
            parts.append(f"{duration((self._total - self._done) / speed)} left")
        return f"{self._unit}: {', '.join([*parts, *filter(None, [figures])])}"


class _Rate(ProgressColumn):
    """Units per second."""

    def render(self, task: BarTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s")


def duration(seconds: float) -> str:
    """Write a duration.

    >>> duration(4.2), duration(75), duration(7500)
    ('4 s', '1:15 min', '2:05 h')
    """
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"
