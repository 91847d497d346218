"""`flr update`: a run goes on with new interactions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import flr
from flr_cli import console
from flr_cli.options import DataOpt, JsonOpt, OutOpt, OverwriteOpt, command
from flr_cli.progress import ConsoleProgress
from flr_model.config import UpdateConfig

if TYPE_CHECKING:
    from flr_model.training.update import UpdateReport


@command(UpdateConfig)
def update(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="Run in use, or the bundle that was made of it.", show_default=False),
    ],
    interactions: Annotated[
        Path,
        typer.Argument(metavar="INTERACTIONS", help="Everything until now, or what is new.", show_default=False),
    ],
    out: OutOpt,
    update: UpdateConfig,
    items: Annotated[Path | None, typer.Option(help="Titles of new items; known ones may be in it too.")] = None,
    data: DataOpt = None,
    data_out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where the dataset of all interactions goes; default: OUT-data."),
    ] = None,
    overwrite: OverwriteOpt = False,
    json: JsonOpt = False,
) -> None:
    """Go on with a run when there are new interactions; kept only if it is not worse on the newest ones.

    flr update run interactions.csv --items items.csv --out run2
    """
    report = flr.update(
        source,
        interactions,
        out,
        items=items,
        config=update,
        data=data,
        data_out=data_out,
        overwrite=overwrite,
        progress=ConsoleProgress(),
    )
    if json:
        console.emit_json(report)
    else:
        _show(report)
    console.note(f"next: flr export {out} --onnx --out BUNDLE")


def _show(report: UpdateReport) -> None:
    console.table(
        f"The newest {report.newest:,} rows, which neither run learned from",
        ("metric", "in use", "updated"),
        [(name, report.before[name], report.after[name]) for name in report.before],
    )
    mean, low, high = report.difference
    console.line(f"NDCG@10 {mean:+.4f} (95 % {low:+.4f}..{high:+.4f}, paired by row)")
    console.line(
        f"{report.new_rows:,} new rows, {report.new_items:,} new items; learned from {report.rows:,} rows in "
        f"{report.steps:,} steps, {report.seconds:.0f} s"
    )
