"""`flr prepare`: a person's files become a dataset folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import flr
from flr_cli import console
from flr_cli.options import JsonOpt, OutOpt, OverwriteOpt, command, refuse
from flr_cli.progress import ConsoleProgress
from flr_model.config import FilesConfig, PrepareConfig

if TYPE_CHECKING:
    from flr_model.data.report import DataReport

_SPLITS = "Ready-made splits"
_FAULTS = ("repeated_rows", "targets_in_history")
"""Figures of splits that are shown only where there are any, in a line of their own."""


@command(PrepareConfig, FilesConfig)
def prepare(
    out: OutOpt,
    prepare: PrepareConfig,
    files: FilesConfig,
    given: list[str],
    interactions: Annotated[
        Path | None,
        typer.Option(help="CSV (any delimiter, gz too), Parquet, JSON Lines, RecBole .inter or Amazon reviews."),
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Items and titles, in the same forms; default: columns of --interactions.")
    ] = None,
    train: Annotated[
        Path | None, typer.Option(help="Rows with a list of history items each.", rich_help_panel=_SPLITS)
    ] = None,
    valid: Annotated[Path | None, typer.Option(help="The same for validation.", rich_help_panel=_SPLITS)] = None,
    test: Annotated[Path | None, typer.Option(help="The same for the test.", rich_help_panel=_SPLITS)] = None,
    overwrite: OverwriteOpt = False,
    json: JsonOpt = False,
) -> None:
    """Turn interactions and items into a dataset of histories, and report on the data.

    flr prepare --interactions interactions.csv --items items.csv --out dataset
    """
    if train is not None:
        split = [name for name in ("split", "valid_fraction", "test_fraction", "tie_order", "k_core") if name in given]
        refuse(split, "on ready-made splits (--train, --valid, --test)")
    report = flr.prepare(
        out,
        interactions=interactions,
        items=items,
        train=train,
        valid=valid,
        test=test,
        config=prepare,
        files=files,
        overwrite=overwrite,
        progress=ConsoleProgress(),
    )
    if json:
        console.emit_json(report)
    else:
        _show(report)
    for example in report.examples:
        console.note(f"{example.user_id}: {' | '.join(example.history)} -> {example.target}")
    console.note(f"next: flr train {out} --out run")


def _show(report: DataReport) -> None:
    figures = asdict(report)
    splits, _, inputs = figures.pop("splits"), figures.pop("examples"), figures.pop("inputs")
    title, count = figures.pop("commonest_title") or (None, 0)
    rows = [(name, place) for name, place in inputs.items()]
    rows += [(name.replace("_", " "), _cell(value)) for name, value in figures.items()]
    if title is not None:
        rows.append(("commonest title", f"{title} ({count:,} items)"))
    for name in _FAULTS:
        counts = {split: row.pop(name) for split, row in splits.items()}
        if any(counts.values()):
            rows.append((name.replace("_", " "), ", ".join(f"{split} {n:,}" for split, n in counts.items())))
    console.table("Data", ("figure", "value"), rows)
    header = ("split", *(name.replace("_", " ") for name in splits["train"]))
    console.table(
        "Rows", header, [(name, *("-" if v is None else v for v in split.values())) for name, split in splits.items()]
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3%}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
