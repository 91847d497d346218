"""`flr train`: supervised fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flr_cli import console
from flr_cli.options import JsonOpt, OutOpt, OverwriteOpt, QuietOpt, settings
from flr_model.config import ModelConfig, TrainConfig
from flr_model.errors import needs_extra


@settings(ModelConfig, TrainConfig)
def train(
    dataset: Annotated[Path, typer.Argument(help="Dataset made by `flr prepare`.")],
    out: OutOpt,
    model: ModelConfig,
    train: TrainConfig,
    refit: Annotated[
        Path | None,
        typer.Option(help="Repeat this finished run on train + valid rows, with its settings and best epoch."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from an interrupted call's checkpoints.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show two encoded rows, sizes and an estimate of time and memory; stop.")
    ] = False,
    overwrite: OverwriteOpt = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Fine-tune a language model with K factors to recommend.

    flr train dataset --out run
    """
    console.setup_logging(quiet=quiet)
    with needs_extra("train"):
        from flr_model.training import plan, sft
    progress = console.progress(quiet=quiet)
    if dry_run:
        outline = plan.plan(dataset, model=model, train=train, refit=refit, progress=progress)
        console.show(outline, "Plan", json=json)
        return
    report = sft.train(
        dataset, out, model=model, train=train, refit=refit, resume=resume, overwrite=overwrite, progress=progress
    )
    console.show(report, "Trained", json=json)
    console.note(f"next: flr align {out} --out ALIGNED, or flr eval {out}", quiet=quiet)
