"""The items: external ids and titles, and their positions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flr_model import columns
from flr_model.errors import DataError


@dataclass(frozen=True)
class Catalog:
    """The one map between external item ids and positions 0..M-1; every table and matrix of items has this order.

    Args:
        item_ids: (M,) external ids as strings, distinct.
        titles: (M,) titles.

    Raises:
        DataError: if the lengths differ or an id occurs twice.
    """

    item_ids: npt.NDArray[Any]
    titles: npt.NDArray[Any]

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

    def extended(self, item_ids: Sequence[str], titles: Sequence[str]) -> Catalog:
        """Return a catalogue with more items behind the present ones; positions of present items stay."""
        return Catalog(
            np.concatenate([self.item_ids, np.asarray(item_ids, object)]),
            np.concatenate([self.titles, np.asarray(titles, object)]),
        )

    def write(self, path: Path) -> None:
        """Write the items as Parquet, in order of position."""
        texts = {columns.ITEM: self.item_ids, columns.TITLE: self.titles}
        pq.write_table(
            pa.table({name: pa.array(map(str, values), pa.string()) for name, values in texts.items()}), path
        )

    @classmethod
    def read(cls, path: Path) -> Catalog:
        """Read what `write` wrote."""
        with pq.ParquetFile(path) as file:  # `read_table` would load pandas, as long as all the rest of scoring
            table = file.read([columns.ITEM, columns.TITLE])
        return cls(*(np.asarray(column.to_pylist(), object) for column in table.columns))
