"""`flr train`: supervised fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flr_cli import console
from flr_cli.options import RUN_PANEL, JsonOpt, OutOpt, OverwriteOpt, command, refuse, switch
from flr_cli.progress import ConsoleProgress
from flr_model.config import ModelConfig, TrainConfig
from flr_model.errors import needs_extra


@command(
    ModelConfig,
    TrainConfig,
    interrupted="go on from the last finished epoch, if there is one, with the same command and --resume",
)
def train(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Dataset made by `flr prepare`.")],
    out: OutOpt,
    model: ModelConfig,
    train: TrainConfig,
    given: list[str],
    refit: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Train again on train + valid rows, with the settings and the best epoch of this run.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = None,
    resume: Annotated[
        bool,
        switch("--resume", help="Go on from the checkpoints of an interrupted call.", rich_help_panel=RUN_PANEL),
    ] = False,
    dry_run: Annotated[
        bool,
        switch(
            "--dry-run",
            help="Show two encoded rows, sizes, and an estimate of time and memory; train nothing.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = False,
    overwrite: OverwriteOpt = False,
    json: JsonOpt = False,
) -> None:
    """Fine-tune a language model with K factors to recommend.

    flr train dataset --out run
    """
    if refit is not None:
        refuse(given, f"with --refit, which takes all settings from {refit}")
    with needs_extra("train"):
        from flr_model.training import plan, sft
    progress = ConsoleProgress()
    if dry_run:
        outline = plan.plan(dataset, model=model, train=train, refit=refit, progress=progress)
        console.show(outline, "Plan", json=json)
        return
    report = sft.train(
        dataset, out, model=model, train=train, refit=refit, resume=resume, overwrite=overwrite, progress=progress
    )
    console.show(report, "Trained", json=json)
    console.note(f"next: flr align {out} --out ALIGNED, or flr eval {out}")
