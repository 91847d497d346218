"""`flr report`: what a run is worth, on one page for people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import flr
from flr_cli import console
from flr_cli.options import DataOpt, OverwriteOpt, command

SourcesArg = Annotated[
    list[Path],
    typer.Argument(metavar="RUN [RUN2 ...]", help="Runs or bundles that `flr eval` has measured.", show_default=False),
]
HtmlOpt = Annotated[Path, typer.Option("--html", metavar="FILE", help="The page to write.", show_default=False)]
SplitOpt = Annotated[str, typer.Option(help="Split whose evaluation is shown (train | valid | test).")]


@command()
def report(
    sources: SourcesArg, html: HtmlOpt, split: SplitOpt = "test", data: DataOpt = None, overwrite: OverwriteOpt = False
) -> None:
    """Write one page about a run: whether it is better, for whom, how it learned, what its factors are about.

    The page needs no network and can be printed. Of several runs the first is shown in full, the others beside it.
    """
    flr.report(sources, html, split=split, data=data, overwrite=overwrite)
    console.note(f"wrote {html}")
