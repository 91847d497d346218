"""Rules for all users alike: which items of the catalogue may be recommended.

Shapes: M items.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flr_export.scoring.most_per import MostPer
from flr_model.arrays import Bools, Floats, Ints
from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD
from flr_model.errors import DataError, pluralize
from flr_model.files.ids import read_factors, read_ids
from flr_model.files.reading import Reading

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ItemRules:
    """Files of item ids.

    Args:
        only: nothing else is recommended; None for the whole catalogue.
        exclude: never recommended, also where ``only`` has them.
        boost: a column of ids and one of factors, by which their probabilities are multiplied.
        most_per: how many items of one value of a column a list may have.
    """

    only: Path | None = None
    exclude: Path | None = None
    boost: Path | None = None
    most_per: MostPer | None = None

    def factors(self, catalog: Catalog, reading: Reading) -> Floats | None:
        """Return (M,) logarithms of the factors, 0 for items that are not listed; None without a file.

        Raises:
            DataError: if the file has other columns, a factor that cannot be used, or no known id.
        """
        if self.boost is None:
            return None
        listed = read_factors(self.boost, reading)
        positions = _known(list(listed), catalog, f"{self.boost} (--boost)", _hint("boost"))
        boost = np.zeros(len(catalog), np.float32)
        values = np.log(np.fromiter(listed.values(), np.float64, count=len(listed)))
        boost[positions[positions != PAD]] = values[positions != PAD]
        return boost

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
    return listed(read_ids(path, reading), catalog, f"{path} (--{role}-items)", _hint(role))


def _hint(role: str) -> str:
    return f"give ids of the bundle's items; --item-col {role}=NAME names their column"


def listed(ids: Sequence[str], catalog: Catalog, name: str, hint: str) -> Bools:
    """Return (M,) which items a list has; unknown ones are counted in a warning.

    Args:
        ids: of the list.
        catalog: M items.
        name: of the list, for messages.
        hint: the way out where no id is known.

    Raises:
        DataError: if none of the ids is known.
    """
    positions = _known(ids, catalog, name, hint)
    among = np.zeros(len(catalog), np.bool_)
    among[positions[positions != PAD]] = True
    return among


def _known(ids: Sequence[str], catalog: Catalog, name: str, hint: str) -> Ints:
    """Return the positions of ids, PAD for unknown ones, which are warned of."""
    positions = catalog.positions(ids)
    unknown = [item_id for item_id, position in zip(ids, positions.tolist(), strict=True) if position == PAD]
    samples = ", ".join(unknown[:3])
    if len(unknown) == len(ids):
        raise DataError(
            f"{name}: none of its ids is known ({pluralize(len(ids), 'id')}, for instance {samples})", hint=hint
        )
    if unknown:
        logger.warning(
            "%s: unknown ids, which are left out: %d of %d, for instance %s", name, len(unknown), len(ids), samples
        )
    return positions
