"""The `flr` command: registers the commands and is the one error boundary.

Exit codes: 0 done, 1 internal or missing package, 2 usage, 3 an input or output that cannot be used, 4 a quality gate
refused, 130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from flr_cli import console
from flr_cli.commands import (
    align,
    doctor,
    evaluate,
    explain,
    export,
    fetch,
    init,
    prepare,
    report,
    score,
    train,
    update,
)
from flr_model import __version__
from flr_model.errors import ConfigError, FlrError, SystemFault
from flr_model.made import COMMAND

USAGE: type[Exception] = typer.BadParameter.__mro__[1]  # Typer exports no name for all errors of usage
SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Faults of a disk that libraries report in exceptions of their own."""
MEMORY = ("out of memory", "can't allocate memory", "Failed to allocate memory", "bad_alloc")
"""Likewise of memory."""

app = typer.Typer(
    name="flr",
    help="Recommendation with a language model that a person can actually run.",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        console.write(f"flr {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if os.environ.get("RANK", "0") != "0":  # set by `accelerate launch` and `torchrun`
        console.mute()


app.command("fetch")(fetch.fetch)
app.command("prepare")(prepare.prepare)
app.command("train")(train.train)
app.command("align")(align.align)
app.command("update")(update.update)
app.command("eval")(evaluate.evaluate)
app.command("export")(export.export)
app.command("score")(score.score)
app.command("explain")(explain.explain)
app.command("report")(report.report)
app.command("init")(init.init)
app.command("doctor")(doctor.doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: arguments without the program's name; None takes the process's own.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    console.setup()
    COMMAND.set(["flr", *arguments])
    try:
        with _termination_stops():
            return int(app(args=arguments or ["--help"], prog_name="flr", standalone_mode=False) or 0)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except Exception as problem:
        known = _known(problem)
        if known is None:
            raise
        console.error(known)
        return known.exit_code


def run() -> None:
    """Enter from the `flr` script."""
    sys.exit(main())


@contextmanager
def _termination_stops() -> Iterator[None]:
    """Let SIGTERM stop a command as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _known(problem: Exception) -> FlrError | None:
    """Return a problem in the user's terms; None if it is a fault of this program."""
    if isinstance(problem, FlrError):
        return problem
    if isinstance(problem, USAGE):
        context = getattr(problem, "ctx", None)
        path = context.command_path if context else "flr"
        known: FlrError = ConfigError(problem.format_message(), hint=f"{path} --help")  # type: ignore[attr-defined]
    elif isinstance(problem, OSError):
        known = SystemFault.of(problem)
    elif isinstance(problem, RecursionError):
        known = SystemFault("an input is nested too deeply to be read", hint="check the JSON cells of the input")
    elif isinstance(problem, MemoryError) or any(words in str(problem) for words in MEMORY):
        known = SystemFault("not enough memory", hint="use a smaller --batch-size, or a machine with more memory")
    else:
        code = next((code for code in SYSTEM if os.strerror(code) in str(problem)), None)
        if code is None:
            return None
        known = SystemFault.of(OSError(code, os.strerror(code)))
    return known.with_traceback(problem.__traceback__)
