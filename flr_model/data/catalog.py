"""The items: external ids and titles, and their positions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flr_model import columns
from flr_model.errors import DataError

SEVERAL = "|"
"""Between the values of a cell that has several, as in ``Action|Comedy``."""

OWN = (columns.ITEM, columns.TITLE, columns.ITEM_TEXT)
"""Names that the catalogue has for itself."""


@dataclass(frozen=True)
class MoreOfItems:
    """What is known of n items beside ids and titles.

    Args:
        texts: (n,) what the model reads; None: the titles.
        details: (n,) cells by the name of their column, "" where there is nothing.
    """

    texts: npt.NDArray[Any] | None = None
    details: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


TITLES_ALONE = MoreOfItems()


@dataclass(frozen=True)
class Catalog:
    """The one map between external item ids and positions 0..M-1; every table and matrix of items has this order.

    Args:
        item_ids: (M,) external ids as strings, distinct.
        titles: (M,) titles, as people read them.
        more: what the model reads instead, and the other columns of the items file.

    Raises:
        DataError: if the lengths differ or an id occurs twice.
    """

    item_ids: npt.NDArray[Any]
    titles: npt.NDArray[Any]
    more: MoreOfItems = TITLES_ALONE

    def __post_init__(self) -> None:
        if len(self.item_ids) != len(self.titles):
            raise DataError(f"{len(self.item_ids)} item ids but {len(self.titles)} titles")
        if len(self._index) != len(self.item_ids):
            repeated = [item_id for item_id, n in Counter(self.item_ids.tolist()).items() if n > 1]
            raise DataError(
                f"{len(repeated)} item ids occur more than once, for instance {', '.join(map(str, repeated[:3]))}",
                hint="keep one row per item",
            )

    @cached_property
    def _index(self) -> dict[str, int]:
        return {item_id: position for position, item_id in enumerate(self.item_ids.tolist())}

    def __len__(self) -> int:
        return len(self.item_ids)

    def positions(self, item_ids: Sequence[str] | npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the positions of external ids, as `flr_model.files.cells.as_id` writes them; -1 for an unknown one."""
        return np.fromiter((self._index.get(i, -1) for i in item_ids), np.int64, count=len(item_ids))

    @property
    def texts(self) -> npt.NDArray[Any]:
        """(M,) what the model reads of each item: its title, or what --item-text made of it."""
        return self.titles if self.more.texts is None else self.more.texts

    def detail(self, name: str, flag: str) -> npt.NDArray[Any]:
        """Return the (M,) cells of another column of the items file.

        Args:
            name: of the column, as names are compared.
            flag: that asks for it, for the message.

        Raises:
            DataError: if there is no such column, or several, with the known ones named.
        """
        found = columns.named(name, self.more.details)
        if len(found) == 1:
            return self.more.details[found[0]]
        known = ", ".join(self.more.details) or "none: the items file had ids and titles alone"
        raise DataError(
            f"{flag}: the items have {'several columns' if found else 'no column'} {name!r}; known columns: {known}",
            hint="name one of them, or give `flr prepare` an items file that has it",
        )

    def extended(self, item_ids: Sequence[str], titles: Sequence[str], more: MoreOfItems = TITLES_ALONE) -> Catalog:
        """Return a catalogue with more items behind the present ones; positions of present items stay."""
        new = np.asarray(titles, object)
        texts = None
        if self.more.texts is not None or more.texts is not None:
            texts = np.concatenate([self.texts, new if more.texts is None else more.texts])
        nothing = np.full(len(new), "", object)
        details = {}
        for name, values in self.more.details.items():
            found = columns.named(name, more.details)
            details[name] = np.concatenate([values, more.details[found[0]] if len(found) == 1 else nothing])
        return Catalog(
            np.concatenate([self.item_ids, np.asarray(item_ids, object)]),
            np.concatenate([self.titles, new]),
            MoreOfItems(texts, details),
        )

    def write(self, path: Path) -> None:
        """Write the items as Parquet, in order of position."""
        texts = {columns.ITEM: self.item_ids, columns.TITLE: self.titles}
        if self.more.texts is not None:
            texts[columns.ITEM_TEXT] = self.more.texts
        texts |= self.more.details
        pq.write_table(
            pa.table({name: pa.array(map(str, values), pa.string()) for name, values in texts.items()}), path
        )

    @classmethod
    def read(cls, path: Path) -> Catalog:
        """Read what `write` wrote."""
        with pq.ParquetFile(path) as file:  # `read_table` would load pandas, as long as all the rest of scoring
            table = file.read()
        found = {name: np.asarray(table.column(name).to_pylist(), object) for name in table.column_names}
        ids, titles, texts = found.pop(columns.ITEM), found.pop(columns.TITLE), found.pop(columns.ITEM_TEXT, None)
        return cls(ids, titles, MoreOfItems(texts, found))


def values_of(cell: str) -> list[str]:
    """Return the values of a cell; one with several counts under each of them.

    >>> values_of("Action|Comedy"), values_of(" Toys "), values_of("")
    (['Action', 'Comedy'], ['Toys'], [])
    """
    return list(dict.fromkeys(value for part in cell.split(SEVERAL) if (value := part.strip())))
