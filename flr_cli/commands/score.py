"""`flr score`: recommend items for every user of a file, with a bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import flr
from flr_cli import console
from flr_cli.options import RUN_PANEL, JsonOpt, OutOpt, OverwriteOpt, command, switch
from flr_cli.progress import ConsoleProgress
from flr_model.config import FilesConfig, ScoreConfig

if TYPE_CHECKING:
    from flr_export.scoring.report import ScoreReport

RULES_PANEL = "What may be recommended"

HistoriesArg = Annotated[
    Path, typer.Argument(help="CSV (gz too) or Parquet: a row per interaction, or a row per user with a list of items.")
]
BoostOpt = Annotated[
    Path | None,
    typer.Option(
        help="File of item ids and factors (columns item_id, factor); multiplies their probabilities.",
        rich_help_panel=RULES_PANEL,
    ),
]
MaxPerOpt = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN=N",
        help="At most N items of one value of a column of the items, for instance category=2.",
        rich_help_panel=RULES_PANEL,
    ),
]
OnlyOpt = Annotated[
    Path | None, typer.Option(help="File of item ids; recommend only these.", rich_help_panel=RULES_PANEL)
]
ExcludeOpt = Annotated[
    Path | None, typer.Option(help="File of item ids; never recommend these.", rich_help_panel=RULES_PANEL)
]
CandidatesOpt = Annotated[
    Path | None, typer.Option(help="Pairs of user and item; rank only these.", rich_help_panel=RULES_PANEL)
]


@command(ScoreConfig, FilesConfig)
def score(
    bundle: Annotated[Path, typer.Argument(help="Bundle made by `flr export --onnx`.")],
    histories: HistoriesArg,
    out: OutOpt,
    score: ScoreConfig,
    files: FilesConfig,
    items: Annotated[Path | None, typer.Option(help="CSV or Parquet of items and titles, for new items.")] = None,
    candidates: CandidatesOpt = None,
    only_items: OnlyOpt = None,
    exclude_items: ExcludeOpt = None,
    boost: BoostOpt = None,
    max_per: MaxPerOpt = None,
    form: Annotated[str, typer.Option(help="Of the histories: auto, long or wide.")] = "auto",
    shards: Annotated[str | None, typer.Option(help="Score one part of the users, for instance 2/8.")] = None,
    resume: Annotated[
        bool, switch("--resume", help="Go on where an interrupted run stopped.", rich_help_panel=RUN_PANEL)
    ] = False,
    overwrite: OverwriteOpt = False,
    json: JsonOpt = False,
) -> None:
    """Recommend items for every user of a file, also users and items never seen in training.

    Long form: all of a user's rows are history. Wide form: each row gets its own list. Rejects go to OUT.rejects.csv.
    """
    # Batches are ranked side by side, one core each; numpy's own threads would only get in their way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    report = flr.score(
        bundle,
        histories,
        out,
        config=score,
        files=files,
        form=form,
        items=items,
        candidates=candidates,
        rules=flr.ItemRules(only_items, exclude_items, boost, flr.MostPer.parse(max_per)),
        shards=shards,
        resume=resume,
        overwrite=overwrite,
        progress=ConsoleProgress(),
    )
    console.emit_json(report) if json else _show(report)


def _show(report: ScoreReport) -> None:
    shown = [(name.replace("_", " "), value) for name, value in vars(report).items() if value is not None]
    console.table("Scored", ("", "value"), [(n, f"{v:,.1f}" if isinstance(v, float) else v) for n, v in shown])
