"""The terminal: stdout carries data, stderr carries messages, progress and errors; a log file may get the latter too.

Whatever is printed passes `clean`, so that no byte of a user's file can steer the terminal.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flr_model.errors import ArtifactError, FlrError
from flr_model.steering import clean

LIBRARY = ("flr_model", "flr_export", "flr", "flr_cli")
"""The loggers whose records are shown."""

STAGES = logging.getLogger("flr_cli.progress")
"""Lines of progress: for the log file, and for stderr where it is not a terminal."""


class _Stream(Console):
    """A console that falls silent when nobody reads it any more: the work goes on, its result is on disk."""

    def on_broken_pipe(self) -> None:
        """Drop this and all further output."""
        self.quiet = True
        _to_nowhere(self.file)


out = _Stream(soft_wrap=True, highlight=False)
err = _Stream(stderr=True, soft_wrap=True, highlight=False)


class _Messages(logging.Handler):
    """Prints log records on stderr: what, then the next thing to try."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        label, style = {logging.WARNING: ("warning: ", "yellow"), logging.ERROR: ("error: ", "bold red")}.get(
            record.levelno, ("", "")
        )
        text = Text.assemble((label, style), clean(record.getMessage()))
        if hint := getattr(record, "hint", None):
            text.append("\ntry: ", "bold").append(clean(hint))
        if record.exc_info and self.level == logging.DEBUG:
            text.append("\n" + clean(logging.Formatter().formatException(record.exc_info)))
        err.print(text)


MESSAGES = _Messages()


class _LogLine(logging.Formatter):
    """A record as lines of a log file, with the hint of an error and its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines."""
        hint = getattr(record, "hint", None)
        return clean(super().format(record) + (f"\ntry: {hint}" if hint else ""))


def setup(*, quiet: bool = False, verbose: bool = False, log_file: Path | None = None) -> None:
    """Prepare the streams and send the library's log to stderr, and with details to a file.

    Args:
        quiet: warnings and errors only on stderr.
        verbose: details too, with the traceback of an error.
        log_file: file to append to.

    Raises:
        ArtifactError: if the file holds anything but such messages.
        OSError: if the file cannot be written.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a narrow encoding must not stop a command after its work
            stream.reconfigure(errors="backslashreplace")
    MESSAGES.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    handlers: list[logging.Handler] = [MESSAGES]
    if log_file is not None:
        _refuse_other_files(log_file)
        kept = logging.FileHandler(log_file, encoding="utf-8", errors="backslashreplace")
        kept.setLevel(logging.DEBUG)
        kept.setFormatter(_LogLine("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(kept)
    for name in LIBRARY:
        _attach(logging.getLogger(name), handlers)
    _attach(STAGES, handlers[1:] if err.is_terminal else handlers)


def _refuse_other_files(log_file: Path) -> None:
    """Refuse to append to a person's data: what is there must begin as the messages do, with their time."""
    if not log_file.is_file():
        return
    with log_file.open("rb") as file:
        start = file.read(20)
    if start and not re.match(rb"\d{4}-\d\d-\d\d \d\d:\d\d:", start):
        raise ArtifactError(f"{log_file} is no file of messages", hint="name another --log-file")


def _attach(logger: logging.Logger, handlers: list[logging.Handler]) -> None:
    logger.handlers = list(handlers)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False


def mute() -> None:
    """Print nothing from here on: for all but the first of several processes that train together."""
    out.quiet = err.quiet = True


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on stdout; floats with four decimals, numbers to the right."""
    drawn = Table(title=Text(clean(title)), title_justify="left", show_edge=False, pad_edge=False)
    for column, name in enumerate(header):
        numeric = all(isinstance(row[column], (int, float)) or row[column] in ("", "-") for row in rows)
        drawn.add_column(Text(clean(name)), justify="right" if numeric and rows else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*[Text(clean(cell(value)).replace("\n", "\\n")) for value in row])
    out.print(drawn)


def line(text: str) -> None:
    """Print a line on stdout, below a table."""
    out.print(Text(clean(text)))


def show(report: Any, title: str, *, json: bool) -> None:
    """Print a report dataclass: one JSON object, or a table of its fields (nested ones in a line of their own)."""
    if json:
        emit_json(report)
        return
    rows = []
    for name, value in asdict(report).items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        rows += [(f"{name} {key}".strip().replace("_", " "), cell(item)) for key, item in inner]
    table(title, ("", "value"), rows)


def emit_json(value: Any) -> None:
    """Print one JSON object on stdout, in ASCII; numbers that JSON lacks (NaN, infinities) become null."""
    write(json.dumps(_plain(value)) + "\n")


def write(text: str) -> None:
    """Print text on stdout as it is."""
    if out.quiet:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        out.on_broken_pipe()


def note(text: str) -> None:
    """Print a line for the person on stderr, unless ``--quiet``."""
    logging.getLogger("flr_cli").info("%s", text)


def warn(text: str) -> None:
    """Print a warning on stderr."""
    logging.getLogger("flr_cli").warning("%s", text)


def error(problem: FlrError) -> None:
    """Print an error, and keep its traceback for ``--verbose`` and the log file."""
    level = logging.ERROR if problem.exit_code else logging.INFO
    traced = problem if problem.__traceback__ and problem.exit_code else None
    logging.getLogger("flr_cli").log(level, "%s", problem.message, exc_info=traced, extra={"hint": problem.hint})


def cell(value: Any) -> str:
    """Write a value as a table shows it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:,.0f}" if value.is_integer() and value else f"{value:.4f}"
    return f"{value:,}"


def _to_nowhere(stream: Any) -> None:
    """Let a broken pipe take what is left in a stream's buffer, so that nothing fails at the end of the process."""
    if isinstance(stream, io.TextIOWrapper):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


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
