"""From a person's files to a dataset folder: items, three splits of rows, a manifest and the data report."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flr_model import columns
from flr_model.artifacts import DATASET
from flr_model.config import FilesConfig, PrepareConfig
from flr_model.data.dataset import SPLITS
from flr_model.data.interactions import read_interactions
from flr_model.data.item_text import ItemText
from flr_model.data.items import ItemFile, build_catalog, named_in, open_items, read_items, refuse_untitled
from flr_model.data.prepared import Prepared, Titles, arrange
from flr_model.data.presplit import SplitFile, read_split
from flr_model.data.report import DataReport, Origin, Times, distinct_interactions
from flr_model.data.split import Timeline, k_core
from flr_model.data.ties import choose_order
from flr_model.errors import ConfigError, DataError
from flr_model.files.header import find_columns
from flr_model.files.reading import Reading, remember
from flr_model.files.tables import Table
from flr_model.files.times import MICROSECONDS
from flr_model.progress import SILENT, Progress, Task
from flr_model.writing import Claim, claim

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The input files: items, and either interactions or all three ready-made splits.

    Args:
        items: ids and titles; None takes those of the interactions' own columns.
        interactions: users, items and times.
        train: rows of histories and targets, likewise ``valid`` and ``test``.
        files: how they are read.
        memory: what an earlier dataset remembers of such files, by their role.

    Raises:
        ConfigError: if files are missing or exclude each other.
    """

    items: Path | None = None
    interactions: Path | None = None
    train: Path | None = None
    valid: Path | None = None
    test: Path | None = None
    files: FilesConfig = field(default_factory=FilesConfig)
    memory: Mapping[str, Any] = field(default_factory=dict)

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
        if self.interactions and {columns.HISTORY, columns.HISTORY_TIMES} & set(self.reading("interactions").names):
            problems.append("--history-col and --history-time-col are for --train, --valid and --test")
        if not self.items and not self.interactions:
            problems.append("--items is missing: recommendations are made of titles")
        if problems:
            raise ConfigError(
                "; ".join(problems), hint="flr prepare --interactions interactions.csv --items items.csv --out dataset"
            )

    def reading(self, role: str) -> Reading:
        """Say how one of the files is read."""
        return Reading.of(self.files, role, self.memory.get(role))

    @property
    def own_titles(self) -> bool:
        """Whether the interactions have the titles in a column of their own."""
        return self.interactions is not None and self.items in (None, self.interactions)

    @property
    def paths(self) -> tuple[Path | None, ...]:
        """All files that are read; None for those that are not given."""
        return self.items, self.interactions, self.train, self.valid, self.test

    @property
    def split_files(self) -> dict[str, Path]:
        """The ready-made splits; empty with interactions."""
        return {name: path for name in SPLITS if (path := getattr(self, name))}


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
        ConfigError: if settings do not apply to the sources, or ``out`` is one of them.
        DataError: if a file cannot be used.
        ArtifactError: if ``out`` exists and is not to be replaced.
    """
    with claim(out, DATASET.kind, inputs=sources.paths, overwrite=overwrite) as place:
        return _prepare(sources, place, config, progress)


def _prepare(sources: Sources, place: Claim, config: PrepareConfig, progress: Progress) -> DataReport:
    if sources.split_files and (config.k_core > 1 or config.split != "temporal" or config.tie_order):
        raise ConfigError(
            "--k-core, --split and --tie-order do not apply to ready-made splits",
            hint="leave them out, or give --interactions",
        )
    with progress.task(3 + len(sources.split_files), "steps") as task:
        prepared = (_ready_made if sources.split_files else _from_interactions)(sources, config, task)
        task.advance(1)
        report = prepared.report()
        with place.folder() as folder:
            prepared.write(folder, report, sources.files)
        task.advance(1)
    return report


def _from_interactions(sources: Sources, config: PrepareConfig, task: Task) -> Prepared:
    reading = sources.reading("items")
    table = None if sources.own_titles else open_items(sources.items or Path(), reading)
    task.advance(1)
    elsewhere = named_in(table, reading) if table else ()
    path = sources.interactions or Path()
    data = read_interactions(path, sources.reading("interactions"), elsewhere=elsewhere, strict=config.strict)
    items = items_of(sources, table or data.table, data.item_ids, config)
    kept = k_core(data, config.k_core)
    used = np.flatnonzero(np.bincount(kept.item))
    catalog, untitled = build_catalog(items, data.item_ids[used], only_used=config.k_core > 1)
    titles = Titles(catalog, untitled, f"{items.path} ({items.about})", remembered(items))
    rejects = [] if sources.own_titles else [items.rejects]
    tie_order = choose_order(kept, config.tie_order)
    decided = replace(config, tie_order=tie_order)
    return arrange(data, kept, Timeline.of(kept, tie_order), titles, decided, rejects)


def items_of(sources: Sources, table: Table, known: Any, config: PrepareConfig) -> ItemFile:
    """Read the titles: from their own file, or from the columns of the interactions."""
    if sources.own_titles and columns.TITLE not in find_columns(table, (), (columns.TITLE,), sources.reading("items")):
        raise DataError(
            f"{table.path} has no titles, and --items is missing: recommendations are made of titles",
            hint="give a file of items and titles with --items, or name the column of the titles with --title-col",
        )
    taken: Collection[str] = ()
    if sources.own_titles:
        taken = find_columns(table, (), (columns.USER, columns.TIME), sources.reading("interactions")).values()
    reading = replace(sources.reading("items"), item_text=config.item_text)
    file = read_items(table, reading, known, repeated=sources.own_titles, taken=taken, strict=config.strict)
    text = ItemText(config.item_text)
    text.refuse_unknown(list(file.details), file.path)
    if empty := text.empty(file.details):
        logger.warning("%s: empty for every item, so that --item-text lacks it: %s", file.path, ", ".join(empty))
    return file


def remembered(items: ItemFile) -> dict[str, Any]:
    """Return what a dataset remembers of an items file."""
    return {**remember(items.found, None), "item_text": items.item_text}


def _ready_made(sources: Sources, config: PrepareConfig, task: Task) -> Prepared:
    table = open_items(sources.items or Path(), sources.reading("items"))
    task.advance(1)
    files: dict[str, SplitFile] = {}
    for name, path in sources.split_files.items():
        elsewhere = named_in(table, sources.reading("items"))
        files[name] = read_split(path, sources.reading(name), elsewhere=elsewhere, strict=config.strict)
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
    items = items_of(sources, table, used, config)
    refuse_untitled(items, shown, "histories")
    refuse_untitled(items, targets, "targets")
    catalog, untitled = build_catalog(items, used)
    splits = {name: file.rows(catalog, config.max_history) for name, file in files.items()}
    inputs = {name: f"{file.path} ({file.about})" for name, file in files.items()}
    rejects = [*(file.rejects for file in files.values()), items.rejects]
    origin = Origin(
        inputs={**inputs, "items": f"{items.path} ({items.about})"},
        split="ready-made",
        times=Times.of(
            np.concatenate([file.target_time for file in files.values()]) * MICROSECONDS,
            files["train"].rule if all(file.timed for file in files.values()) else None,
        ),
        dropped_rows=sum(map(len, rejects)),
        untitled_items=untitled,
        interactions=distinct_interactions(splits),
    )
    train = files["train"]
    memory = {"interactions": remember(train.found, train.rule), "items": remembered(items)}
    return Prepared(catalog, splits, origin, rejects, memory, config)
