"""A dataset that goes on: new interactions behind those that an earlier one keeps, by the same settings.

Shapes: I items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flr_model import columns
from flr_model.config import FilesConfig, PrepareConfig
from flr_model.config_io import build
from flr_model.data.catalog import Catalog
from flr_model.data.dataset import SPLITS, Dataset
from flr_model.data.interactions import Interactions, read_interactions
from flr_model.data.items import ItemFile, named_in, open_items, or_ids, refuse_untitled, with_lacking
from flr_model.data.kept import KEPT, join_kept
from flr_model.data.prepare import Sources, items_of, remembered
from flr_model.data.prepared import Prepared, Titles, arrange
from flr_model.data.split import Timeline, k_core
from flr_model.data.ties import choose_order
from flr_model.errors import ArtifactError, DataError, pluralize
from flr_model.files.header import find_columns


@dataclass(frozen=True)
class Extended:
    """What a dataset becomes.

    Args:
        prepared: the whole, old and new; the old items keep their positions.
        files: how its files were read.
        new_rows: rows that the old dataset did not have.
        new_items: items likewise.
    """

    prepared: Prepared
    files: FilesConfig
    new_rows: int
    new_items: int


def extend(dataset: Dataset, interactions: Path, items: Path | None, held_out: float) -> Extended:
    """Read interactions and join them to those of a dataset; the newest rows are held out.

    Args:
        dataset: made of interactions, by time.
        interactions: everything until now, or what is new.
        items: titles of new items, with or without the known ones; None takes those of the interactions' own columns.
        held_out: share of the number of new rows that is held out: as many of the newest rows of all are the test, in
            one half, and validation, in the other.

    Raises:
        ArtifactError: if the dataset cannot go on.
        DataError: if a file cannot be used, has nothing new, or lacks titles.
    """
    config, files = _settings(dataset)
    memory = dataset.manifest.content.get("reading", {})
    sources = Sources(interactions=interactions, items=items, files=files, memory=memory)
    table = None if items is None else open_items(items, sources.reading("items"))
    elsewhere = named_in(table, sources.reading("items")) if table else ()
    read = read_interactions(interactions, sources.reading("interactions"), elsewhere=elsewhere, strict=config.strict)
    data = join_kept(dataset.folder / KEPT, read)
    titled = table or (read.table if _has_titles(read, sources) else None)
    file = None if titled is None else items_of(sources, titled, data.item_ids, config)
    kept = k_core(data, config.k_core)
    tie_order = choose_order(kept, config.tie_order or "file")  # an earlier flr knew no other
    timeline = Timeline.of(kept, tie_order)
    rows, known = int((timeline.index > 0).sum()), sum(len(dataset.rows(name)) for name in SPLITS)
    if rows <= known:
        raise DataError(
            f"{interactions} has no row that {dataset.folder} lacks: {known:,} rows as before",
            hint="give the file with the interactions since then",
        )
    used = data.item_ids[np.flatnonzero(np.bincount(kept.item))]
    titles = _titles(dataset, file, used, only_used=config.k_core > 1)
    share = held_out / 2 * (rows - known) / rows
    config = replace(config, valid_fraction=share, test_fraction=share, tie_order=tie_order)
    rejects = [] if file is None or items is None else [file.rejects]
    prepared = arrange(data, kept, timeline, titles, config, rejects)
    return Extended(prepared, files, rows - known, len(titles.catalog) - len(dataset.catalog))


def _settings(dataset: Dataset) -> tuple[PrepareConfig, FilesConfig]:
    """Return how a dataset was prepared.

    Raises:
        ArtifactError: if it keeps no interactions, or these cannot be cut by time.
    """
    tables, folder = dataset.manifest.settings, dataset.folder
    config, files = build(PrepareConfig, tables.get("prepare", {})), build(FilesConfig, tables.get("files", {}))
    again = "flr prepare --interactions interactions.csv --out data, then flr train data --out run"
    if not (folder / KEPT).is_file():
        raise ArtifactError(
            f"{folder} does not keep its interactions: it is of ready-made splits, or of an earlier flr", hint=again
        )
    if config.split != "temporal":
        raise ArtifactError(f"{folder} has no newest rows: it was prepared with --split {config.split}", hint=again)
    if not dataset.manifest.content["reading"]["interactions"]["timed"]:
        raise ArtifactError(f"{folder} was prepared without times: what is newest cannot be told", hint=again)
    return config, files


def _has_titles(read: Interactions, sources: Sources) -> bool:
    return columns.TITLE in find_columns(read.table, (), (columns.TITLE,), sources.reading("items"))


def _titles(dataset: Dataset, file: ItemFile | None, used: npt.NDArray[Any], *, only_used: bool) -> Titles:
    """Return the catalogue with its new items."""
    known = dataset.manifest.content
    untitled_before = known["report"]["untitled_items"]
    if file is not None:
        catalog, untitled = extend_catalog(dataset.catalog, file, used, only_used=only_used)
        return Titles(catalog, untitled_before + untitled, f"{file.path} ({file.about})", remembered(file))
    new = used[dataset.catalog.positions(used) < 0]
    if len(new):
        raise DataError(
            f"{pluralize(len(new), 'item')} of the interactions are new, for instance {', '.join(new[:3])}, and have "
            "no titles",
            hint="give them with --items",
        )
    return Titles(dataset.catalog, untitled_before, known["report"]["inputs"]["items"], known["reading"]["items"])


def extend_catalog(
    catalog: Catalog, file: ItemFile, used: npt.NDArray[Any], *, only_used: bool = False
) -> tuple[Catalog, int]:
    """Put new items behind those of a catalogue, which keep their positions, titles and texts.

    Args:
        catalog: known items.
        file: of items, the known ones with or without the new.
        used: (I,) distinct ids that occur in interactions.
        only_used: leave out new items that occur in no interaction.

    Returns:
        The catalogue, and the number of new items whose title is their id.

    Raises:
        DataError: if more than half of the new used items have no title.
    """
    new_used = used[catalog.positions(used) < 0]
    if len(new_used):
        refuse_untitled(file, new_used, "new interactions")
    ids, titles = with_lacking(file, used, only_used=only_used)
    new = catalog.positions(ids) < 0
    ids = ids[new]
    titles, untitled = or_ids(file.path, ids, titles[new])
    return catalog.extended(ids.tolist(), titles.tolist(), file.more_of(ids, titles)), untitled
