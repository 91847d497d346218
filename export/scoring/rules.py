"""Rules for all users alike: which items of the catalogue may be recommended.

Shapes: M items.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flr_model.arrays import Bools
from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD
from flr_model.errors import DataError, pluralize
from flr_model.files.ids import read_ids
from flr_model.files.reading import Reading

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ItemRules:
    """Files of item ids.

    Args:
        only: nothing else is recommended; None for the whole catalogue.
        exclude: never recommended, also where ``only`` has them.
    """

    only: Path | None = None
    exclude: Path | None = None

    def offered(self, catalog: Catalog, reading: Callable[[str], Reading]) -> Bools | None:
        """Return (M,) the items that may be recommended; None for all. Unknown ids are counted in one warning a file.

        Args:
            catalog: the items that can be ranked.
            reading: what is known of a file, by its role: only or exclude.

        Raises:
            DataError: if a file cannot be read or has no known id, or no item is left.
        """
        if self.only is None and self.exclude is None:
            return None
        offered = np.ones(len(catalog), np.bool_)
        if self.only is not None:
            offered = _listed(self.only, catalog, reading("only"), "only")
        if self.exclude is not None:
            offered &= ~_listed(self.exclude, catalog, reading("exclude"), "exclude")
        if not offered.any():
            raise DataError(
                f"{self.exclude} excludes all that could be recommended",
                hint="check the files of --only-items and --exclude-items",
            )
        logger.info("%d of %s may be recommended", offered.sum(), pluralize(len(catalog), "item"))
        return offered


def _listed(path: Path, catalog: Catalog, reading: Reading, role: str) -> Bools:
    """Return (M,) which items a file lists."""
    ids = read_ids(path, reading)
    positions = catalog.positions(ids)
    unknown = [item_id for item_id, position in zip(ids, positions.tolist(), strict=True) if position == PAD]
    samples = ", ".join(unknown[:3])
    if len(unknown) == len(ids):
        raise DataError(
            f"{path} (--{role}-items): none of its ids is known ({pluralize(len(ids), 'id')}, for instance {samples})",
            hint=f"give ids of the bundle's items; --item-col {role}=NAME names their column",
        )
    if unknown:
        logger.warning(
            "%s (--%s-items): unknown ids, which are left out: %d of %d, for instance %s",
            path, role, len(unknown), len(ids), samples,
        )  # fmt: skip
    listed = np.zeros(len(catalog), np.bool_)
    listed[positions[positions != PAD]] = True
    return listed
