"""The other columns of an items file: brand, category, whatever else it says of an item."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flr_model import columns
from flr_model.data.catalog import OWN, SEVERAL
from flr_model.files.cells import CellError, as_text
from flr_model.files.tables import Table

logger = logging.getLogger(__name__)

AGREEING = 0.95
"""Share of repeated cells that must be the item's first one; else the column is of the rows, not of the items."""


class Details:
    """Gathers, for each item, the first cell of each column that has something.

    Args:
        table: the file.
        taken: its columns that are read as something else.
        repeated: the file has a row per interaction; columns that differ between the rows of an item are left out.
    """

    def __init__(self, table: Table, taken: Collection[str], *, repeated: bool) -> None:
        own = {columns.normalized(name) for name in OWN}
        free = [name for name in table.names if name not in taken]
        self.names = [name for name in free if columns.normalized(name) not in own]
        self._path, self._repeated = table.path, repeated
        self._cells: dict[str, list[str]] = {}
        self._again, self._other = [0] * len(self.names), [0] * len(self.names)
        if clash := [name for name in free if name not in self.names]:
            logger.warning("%s: columns %s are not kept: the dataset has its own", table.path, ", ".join(clash))

    def add(self, item_id: str, cells: Sequence[Any]) -> None:
        """Take the cells of a row; one without an id says nothing."""
        if not item_id:
            return
        known = self._cells.setdefault(item_id, [""] * len(self.names))
        for place, text in enumerate(map(_text, cells)):
            if text and known[place]:
                self._again[place] += 1
                self._other[place] += text != known[place]
            known[place] = known[place] or text

    def of(self, item_ids: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Return the columns that are kept, (M,) cells each."""
        varying = [
            other > (1 - AGREEING) * again if self._repeated else False
            for again, other in zip(self._again, self._other, strict=True)
        ]
        if any(varying):
            names = ", ".join(name for name, varies in zip(self.names, varying, strict=True) if varies)
            logger.info("%s: not kept, since they differ between the rows of an item: %s", self._path, names)
        return {
            name: np.asarray([self._cells[item_id][place] for item_id in item_ids], object)
            for place, (name, varies) in enumerate(zip(self.names, varying, strict=True))
            if not varies
        }


def _text(cell: Any) -> str:
    """Return a cell as text; a list as its values, "" for what is no text."""
    if isinstance(cell, (list, tuple)):
        return SEVERAL.join(filter(None, map(_text, cell)))
    try:
        return as_text(cell)
    except CellError:
        return ""
