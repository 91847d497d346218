"""The interactions that a dataset keeps, so that later ones can be joined to them.

Shapes: E interactions.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from flr_model import columns
from flr_model.artifacts import DATASET, reading
from flr_model.data.interactions import Interactions
from flr_model.errors import pluralize

logger = logging.getLogger(__name__)

KEPT = "interactions.parquet"
"""The file of a dataset; those of ready-made splits have none."""

_WHAT = [columns.USER, columns.ITEM, columns.TIME]


def write_kept(path: Path, data: Interactions) -> None:
    """Write users, items and times in microseconds, in the order in which they were read."""
    frame = _frame(data)
    ids = {name: pa.array(frame[name], pa.string()) for name in _WHAT[:2]}
    pq.write_table(pa.table({**ids, columns.TIME: pa.array(frame[columns.TIME], pa.int64())}), path)


def join_kept(path: Path, data: Interactions) -> Interactions:
    """Put the interactions of a file behind those that a dataset keeps; what both have counts once.

    Args:
        path: of what the dataset keeps.
        data: of the file.

    Raises:
        ArtifactError: if what is kept cannot be read.
    """
    with reading(path, DATASET.again):
        kept = pd.read_parquet(path)[_WHAT].astype({columns.TIME: np.int64})
    read = _frame(data)
    for frame in (kept, read):  # a user may take an item twice at one time
        frame["again"] = frame.groupby(_WHAT, sort=False).cumcount()
    known = (read.merge(kept, how="left", indicator="in")["in"] == "both").to_numpy()
    logger.info(
        "%s: %s, %s of them new; %s of the dataset's are not in it and stay",
        data.path,
        pluralize(len(read), "row"),
        f"{(~known).sum():,}",
        f"{len(kept) - known.sum():,}",
    )
    whole = pd.concat([kept, read[~known]])
    user, user_ids = pd.factorize(whole[columns.USER])
    item, item_ids = pd.factorize(whole[columns.ITEM])
    return replace(
        data,
        user=user.astype(np.int64),
        item=item.astype(np.int64),
        time=whole[columns.TIME].to_numpy(np.int64),
        user_ids=np.asarray(user_ids, object),
        item_ids=np.asarray(item_ids, object),
    )


def _frame(data: Interactions) -> pd.DataFrame:
    return pd.DataFrame(
        {
            columns.USER: data.user_ids[data.user],
            columns.ITEM: data.item_ids[data.item],
            columns.TIME: data.time,
        }
    )
