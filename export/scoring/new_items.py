"""Items that came after training: read from a file, and known by their titles."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from flr_model.data.histories import PAD
from flr_model.data.item_text import ItemText
from flr_model.files.reading import Reading
from flr_model.ranking.recommender import Recommender

if TYPE_CHECKING:
    from flr_model.data.items import ItemFile

logger = logging.getLogger(__name__)


def read_new_items(items: Path, reading: Reading, recommender: Recommender) -> ItemFile:
    """Read a file of items and titles, of the kind that the recommender's items were made of."""
    from flr_model.data.items import open_items, read_items  # brings pandas, which takes as long to load as the rest

    return read_items(open_items(items, reading), reading, recommender.catalog.item_ids)


def with_new_items(recommender: Recommender, file: ItemFile) -> Recommender:
    """Return a recommender that also knows the file's new items, by their titles; those without one are warned of."""
    new = recommender.catalog.positions(file.item_ids) == PAD
    titled = new & (file.titles != "")
    logger.info("%s: %d items are new and scored from their titles", file.path, titled.sum())
    if untitled := file.item_ids[new & ~titled].tolist():
        logger.warning(
            "%s: %d new items have no title, for instance %s", file.path, len(untitled), ", ".join(untitled[:3])
        )
    if lacking := ItemText(file.item_text).unknown(file.details):
        logger.warning(
            "%s: no column %s, of which the bundle's item texts are made (%s); left out for new items",
            file.path, ", ".join(lacking), file.item_text,
        )  # fmt: skip
    ids, titles = file.item_ids[titled], file.titles[titled]
    return recommender.with_items(ids.tolist(), titles.tolist(), file.more_of(ids, titles))
