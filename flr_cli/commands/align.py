"""`flr align`: latent group-relative policy optimisation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import flr
from flr_cli import console
from flr_cli.options import DataOpt, JsonOpt, OutOpt, OverwriteOpt, command
from flr_cli.progress import ConsoleProgress
from flr_model.config import AlignConfig


@command(AlignConfig)
def align(
    run: Annotated[Path, typer.Argument(help="Run made by `flr train`.")],
    out: OutOpt,
    align: AlignConfig,
    data: DataOpt = None,
    overwrite: OverwriteOpt = False,
    json: JsonOpt = False,
) -> None:
    """Align a run's reasoning with what users chose next; kept only if validation gets better.

    flr align run --out aligned
    """
    report = flr.align(run, out, config=align, data=data, overwrite=overwrite, progress=ConsoleProgress())
    if json:
        console.emit_json(report)
    else:
        rows = [(name, report.before[name], report.after[name]) for name in report.before]
        console.table(f"Validation; kept: {report.kept}", ("metric", "before", "after"), rows)
    console.note(f"next: flr eval {out}, or flr export {out} --onnx --out BUNDLE")
