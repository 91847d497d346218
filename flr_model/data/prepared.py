"""A dataset before it is written: interactions become rows, rows and items a folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from flr_model.artifacts import Manifest
from flr_model.config import FilesConfig, PrepareConfig
from flr_model.data.catalog import Catalog
from flr_model.data.dataset import write_rows
from flr_model.data.histories import HistoryRows
from flr_model.data.interactions import Interactions
from flr_model.data.kept import KEPT, write_kept
from flr_model.data.report import DataReport, Origin, Times, describe
from flr_model.data.split import Timeline, split_targets
from flr_model.files.reading import remember
from flr_model.files.rows import Rejects, write_rejects

REPORT = "report.json"
REJECTS = "rejects.csv"


@dataclass(frozen=True)
class Prepared:
    """A dataset in memory.

    Args:
        catalog: its items.
        splits: rows of train, valid and test.
        origin: figures for the report.
        rejects: rows of the files that are left out.
        memory: how the files were understood.
        config: how it was made, with what was decided.
        interactions: all of them, for datasets that go on from this one; None for ready-made splits.
    """

    catalog: Catalog
    splits: dict[str, HistoryRows]
    origin: Origin
    rejects: list[Rejects]
    memory: dict[str, Any]
    config: PrepareConfig
    interactions: Interactions | None = None

    def report(self) -> DataReport:
        """Describe it, and warn of what is odd."""
        return describe(self.catalog, self.splits, self.origin)

    def write(self, folder: Path, report: DataReport, files: FilesConfig) -> None:
        """Write it into an existing folder, with the settings that made it and those that read its files."""
        self.catalog.write(folder / "items.parquet")
        write_rows(folder, self.splits)
        if self.interactions is not None:
            write_kept(folder / KEPT, self.interactions)
        body = asdict(report)
        (folder / REPORT).write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        write_rejects(folder / REJECTS, self.rejects)
        settings = {config.table: config.as_dict() for config in (self.config, files)}
        Manifest("dataset", settings=settings, content={"report": body, "reading": self.memory}).write(folder)


class Titles(NamedTuple):
    """The catalogue, the number of its items without a title, where it comes from, and how its file was understood."""

    catalog: Catalog
    untitled: int
    source: str
    memory: Any


def arrange(
    data: Interactions,
    kept: Interactions,
    timeline: Timeline,
    titles: Titles,
    config: PrepareConfig,
    rejects: list[Rejects],
) -> Prepared:
    """Make rows of interactions.

    Args:
        data: all of them.
        kept: those of them that a filter left.
        timeline: of these.
        titles: of their items.
        config: split and history length.
        rejects: rows of the items file that are left out.

    Raises:
        DataError: if a split is empty.
    """
    positions = titles.catalog.positions(data.item_ids)
    splits = {
        name: timeline.rows(targets, data.user_ids, positions, config.max_history)
        for name, targets in split_targets(timeline, config).items()
    }
    origin = Origin(
        inputs={"interactions": f"{data.path} ({data.table.about})", "items": titles.source},
        split=config.split,
        times=Times.of(data.time, data.rule, newest_first=data.newest_first),
        dropped_rows=len(data.rejects) + sum(map(len, rejects)),
        filtered_interactions=len(data) - len(kept),
        untitled_items=titles.untitled,
        interactions=len(pd.DataFrame({"user": kept.user, "item": kept.item, "time": kept.time}).drop_duplicates()),
    )
    memory = {"interactions": remember(data.found, data.rule), "items": titles.memory}
    return Prepared(titles.catalog, splits, origin, [data.rejects, *rejects], memory, config, data)
