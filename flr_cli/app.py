"""The `flr` command: registers the commands and is the one error boundary.

Exit codes: 0 done, 1 internal or missing package, 2 usage, 3 bad data, 4 a quality gate refused.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from flr_cli import console
from flr_cli.commands import align, doctor, evaluate, export, fetch, init, prepare, score, train
from flr_model import __version__
from flr_model.errors import FlrError

app = typer.Typer(
    name="flr",
    help="Recommendation with a language model that a person can actually run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"flr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if os.environ.get("RANK", "0") != "0":  # set by `accelerate launch` and `torchrun`
        console.mute()


app.command("fetch")(fetch.fetch)
app.command("prepare")(prepare.prepare)
app.command("train")(train.train)
app.command("align")(align.align)
app.command("eval")(evaluate.evaluate)
app.command("export")(export.export)
app.command("score")(score.score)
app.command("init")(init.init)
app.command("doctor")(doctor.doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: arguments without the program's name; None takes the process's own.
    """
    try:
        code = app(args=list(argv) if argv is not None else sys.argv[1:], prog_name="flr", standalone_mode=True)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except FlrError as problem:
        console.error(problem)
        return problem.exit_code
    except Exception as problem:
        if os.strerror(errno.ENOSPC) not in str(problem):  # libraries say it in exceptions of their own
            raise
        full = FlrError("no space left on the disk", hint="free some space, or write to another disk with --out")
        console.error(full)
        return full.exit_code
    return int(code or 0)


def run() -> None:
    """Enter from the `flr` script."""
    sys.exit(main())
