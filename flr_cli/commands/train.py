"""`flr train`: supervised fine-tuning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import flr
from flr_cli import console
from flr_cli.options import RUN_PANEL, JsonOpt, OutOpt, OverwriteOpt, command, refuse, switch
from flr_cli.progress import ConsoleProgress
from flr_model.config import ModelConfig, TitleConfig, TrainConfig
from flr_model.errors import needs_extra


@command(
    ModelConfig,
    TitleConfig,
    TrainConfig,
    interrupted="go on from the last finished epoch, if there is one, with the same command and --resume",
)
def train(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Dataset made by `flr prepare`.")],
    out: OutOpt,
    model: ModelConfig,
    title: TitleConfig,
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
        settings = [name for name in given if name != "report_to"]
        refuse(settings, f"with --refit, which takes all settings from {refit}")
    progress, model = ConsoleProgress(), replace(model, title=title)
    if dry_run:
        with needs_extra("train"):
            from flr_model.training.plan import plan
        console.show(plan(dataset, model=model, train=train, refit=refit, progress=progress), "Plan", json=json)
        return
    shape = None if refit else model
    report = flr.train(
        dataset, out, model=shape, train=train, refit=refit, resume=resume, overwrite=overwrite, progress=progress
    )
    console.show(report, "Trained", json=json)
    console.note(f"next: flr align {out} --out ALIGNED, or flr eval {out}")
