"""The terminal: the only user of Rich. stdout carries data, stderr carries logs, progress and errors."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichBar
from rich.table import Table
from rich.text import Text

from flr_model.errors import FlrError
from flr_model.progress import SILENT, Progress

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def mute() -> None:
    """Say nothing from here on: for all but the first of several processes that train together."""
    out.quiet = err.quiet = True


def setup_logging(*, quiet: bool) -> None:
    """Send the library's log to stderr: warnings only with ``--quiet``."""
    handler = RichHandler(console=err, show_time=False, show_path=False, show_level=False, markup=False)
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name in ("flr_model", "export", "flr_cli"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.WARNING if quiet else logging.INFO)
        logger.propagate = False


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on stdout; floats with four decimals, numbers to the right."""
    drawn = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column, name in enumerate(header):
        numeric = all(isinstance(row[column], (int, float)) or row[column] in ("", "-") for row in rows)
        drawn.add_column(name, justify="right" if numeric and rows else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*[Text(_cell(value)) for value in row])
    out.print(drawn)


def line(text: str) -> None:
    """Print a line on stdout, below a table."""
    out.print(Text(text))


def show(report: Any, title: str, *, json: bool) -> None:
    """Print a report dataclass: one JSON object, or a table of its fields (nested ones in a line of their own)."""
    if json:
        emit_json(report)
        return
    rows = []
    for name, value in asdict(report).items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        rows += [(f"{name} {key}".strip().replace("_", " "), _cell(item)) for key, item in inner]
    table(title, ("", "value"), rows)


def emit_json(value: Any) -> None:
    """Print one JSON object on stdout; numbers that JSON lacks (NaN, infinities) become null."""
    if not out.quiet:
        sys.stdout.write(json.dumps(_plain(value), ensure_ascii=False) + "\n")


def note(text: str, *, quiet: bool = False) -> None:
    """Print a line for the person on stderr."""
    if not quiet:
        err.print(Text(text))


def error(problem: FlrError) -> None:
    """Print an error: what, then the next thing to try."""
    err.print(Text.assemble(("error: ", "bold red"), problem.message))
    if problem.hint:
        err.print(Text.assemble(("try: ", "bold"), problem.hint))


def progress(*, quiet: bool) -> Progress:
    """Return a bar when stderr is a terminal, else one that stays silent."""
    return SILENT if quiet or not err.is_terminal else _Bar()


class _Rate(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {task.fields['unit']}/s")


class _Bar:
    """The progress bar that the library's jobs are given."""

    def __init__(self) -> None:
        self._bar = RichBar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=err,
        )
        self._task: Any = None

    def start(self, total: int | None, unit: str) -> None:
        """Begin a job."""
        self._task = self._bar.add_task(unit, total=total, unit=unit, figures="")
        self._bar.start()

    def advance(self, amount: int, **figures: float | str) -> None:
        """Count units done."""
        shown = "  ".join(f"{name} {_cell(value)}" for name, value in figures.items())
        fields: dict[str, Any] = {"figures": shown} if figures else {}
        self._bar.update(self._task, advance=amount, **fields)

    def finish(self) -> None:
        """End the job."""
        self._bar.stop()


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:,.0f}" if value.is_integer() and value else f"{value:.4f}"
    return f"{value:,}"


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
