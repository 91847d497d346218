"""From a person's files to a dataset folder: items, three splits of rows, a manifest and the data report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from flr_model import columns
from flr_model.artifacts import Manifest, check_free, writing_folder
from flr_model.config import PrepareConfig
from flr_model.data.catalog import Catalog
from flr_model.data.dataset import SPLITS, write_rows
from flr_model.data.histories import HistoryRows
from flr_model.data.interactions import read_interactions
from flr_model.data.items import build_catalog, named_in, open_items, read_items, refuse_untitled
from flr_model.data.presplit import SplitFile, read_split
from flr_model.data.report import DataReport, Origin, describe, distinct_interactions
from flr_model.data.split import Timeline, k_core, split_targets
from flr_model.errors import ConfigError, DataError
from flr_model.files.tables import Table
from flr_model.progress import SILENT, Progress, Task

REPORT = "report.json"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The input files: items, and either interactions or all three ready-made splits.

    Args:
        items: ids and titles.
        interactions: users, items and times.
        train: rows of histories and targets, likewise ``valid`` and ``test``.
        names: the user's names for columns, keyed as in `flr_model.columns`.

    Raises:
        ConfigError: if files are missing or exclude each other.
    """

    items: Path | None = None
    interactions: Path | None = None
    train: Path | None = None
    valid: Path | None = None
    test: Path | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ready = {name: getattr(self, name) for name in SPLITS}
        given = [f"--{name}" for name, path in ready.items() if path]
        absent = [f"--{name}" for name, path in ready.items() if not path]
        problems = []
        if self.interactions and given:
            problems.append(f"--interactions and {', '.join(given)} exclude each other")
        elif given and absent:
            problems.append(f"{', '.join(absent)} is missing beside {', '.join(given)}")
        elif not self.interactions and not given:
            problems.append("there is no input: --interactions, or --train, --valid and --test")
        if self.interactions and {columns.HISTORY, columns.HISTORY_TIMES} & set(self.names):
            problems.append("--history-col and --history-time-col are for --train, --valid and --test")
        if not self.items:
            problems.append("--items is missing: recommendations are made of titles")
        if problems:
            raise ConfigError(
                "; ".join(problems), hint="flr prepare --interactions interactions.csv --items items.csv --out dataset"
            )

    @property
    def split_files(self) -> dict[str, Path]:
        """The ready-made splits; empty with interactions."""
        return {name: path for name in SPLITS if (path := getattr(self, name))}


@dataclass(frozen=True)
class _Prepared:
    catalog: Catalog
    splits: dict[str, HistoryRows]
    origin: Origin


def prepare(
    sources: Sources, out: Path, config: PrepareConfig, *, overwrite: bool = False, progress: Progress = SILENT
) -> DataReport:
    """Read the files, split, and write a dataset folder.

    Args:
        sources: the input files.
        out: the folder to make.
        config: filters, split and history length; a ready-made split takes only ``max_history`` of it.
        overwrite: replace an existing dataset.
        progress: told of files read and written.

    Raises:
        ConfigError: if settings do not apply to the sources.
        DataError: if a file cannot be used.
        ArtifactError: if ``out`` exists and is not to be replaced.
    """
    check_free(out, overwrite=overwrite)
    if sources.split_files and (config.k_core > 1 or config.split != "temporal"):
        raise ConfigError(
            "--k-core and --split do not apply to ready-made splits", hint="leave them out, or give --interactions"
        )
    with progress.task(3 + len(sources.split_files), "steps") as task:
        items = open_items(sources.items or Path(), sources.names)
        task.advance(1)
        prepared = (_ready_made if sources.split_files else _from_interactions)(sources, items, config, task)
        task.advance(1)
        report = describe(prepared.catalog, prepared.splits, prepared.origin)
        with writing_folder(out, overwrite=overwrite) as folder:
            _write(folder, prepared, report, config)
        task.advance(1)
    return report


def _from_interactions(sources: Sources, table: Table, config: PrepareConfig, task: Task) -> _Prepared:
    elsewhere = named_in(table, sources.names)
    data = read_interactions(sources.interactions or Path(), sources.names, elsewhere=elsewhere)
    items = read_items(table, sources.names, data.item_ids)
    kept = k_core(data, config.k_core)
    used = np.flatnonzero(np.bincount(kept.item))
    catalog, untitled = build_catalog(items, data.item_ids[used], only_used=config.k_core > 1)
    timeline = Timeline.of(kept)
    positions = catalog.positions(data.item_ids)
    splits = {
        name: timeline.rows(targets, data.user_ids, positions, config.max_history)
        for name, targets in split_targets(timeline, config).items()
    }
    origin = Origin(
        inputs={"interactions": f"{data.path} ({data.about})", "items": f"{items.path} ({items.about})"},
        split=config.split,
        timed=data.timed,
        dropped_rows=data.dropped,
        filtered_interactions=len(data) - len(kept),
        untitled_items=untitled,
        interactions=len(pd.DataFrame({"user": kept.user, "item": kept.item, "time": kept.time}).drop_duplicates()),
    )
    return _Prepared(catalog, splits, origin)


def _ready_made(sources: Sources, table: Table, config: PrepareConfig, task: Task) -> _Prepared:
    files: dict[str, SplitFile] = {}
    for name, path in sources.split_files.items():
        files[name] = read_split(path, sources.names, elsewhere=named_in(table, sources.names))
        task.advance(1)
    users = pd.unique(np.concatenate([file.user_id for file in files.values()]))
    if len(users) == 1:
        raise DataError(
            f"{files['train'].path}: one user only in all splits ({str(users[0])!r})", hint="check --user-col"
        )
    shown, targets = (
        pd.unique(np.concatenate([getattr(file, name) for file in files.values()])) for name in ("history", "item_id")
    )
    used = pd.unique(np.concatenate([shown, targets]))
    items = read_items(table, sources.names, used)
    refuse_untitled(items, shown, "histories")
    refuse_untitled(items, targets, "targets")
    catalog, untitled = build_catalog(items, used)
    splits = {name: file.rows(catalog, config.max_history) for name, file in files.items()}
    inputs = {name: f"{file.path} ({file.about})" for name, file in files.items()}
    origin = Origin(
        inputs={**inputs, "items": f"{items.path} ({items.about})"},
        split="ready-made",
        timed=all(file.timed for file in files.values()),
        dropped_rows=sum(file.dropped for file in files.values()),
        untitled_items=untitled,
        interactions=distinct_interactions(splits),
    )
    return _Prepared(catalog, splits, origin)


def _write(folder: Path, prepared: _Prepared, report: DataReport, config: PrepareConfig) -> None:
    prepared.catalog.write(folder / "items.parquet")
    write_rows(folder, prepared.splits)
    body = asdict(report)
    (folder / REPORT).write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    Manifest("dataset", settings={config.table: config.as_dict()}, content={"report": body}).write(folder)
