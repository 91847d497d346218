"""Interactions of one user at one moment: how many there are, and in which order they count.

The lines of an invoice, or the reviews of a day, have one time, and stand in the file in some order of a form, of a
catalogue or of a database. A model that reads sequences learns that order, and is right about the next line for a
reason that is worth nothing when it is used.

Shapes: E interactions.
"""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from flr_model.data.interactions import Interactions
from flr_model.errors import ConfigError
from flr_model.files.events import Ints

logger = logging.getLogger(__name__)

MOST = 0.5
"""Order is drawn where a larger share of rows has the time of the interaction before."""


def tie_share(data: Interactions) -> float:
    """Return the share of a user's interactions beyond the first that have the time of the one before; 0 untimed."""
    events = pd.DataFrame({"user": data.user, "time": data.time})
    n_rows = len(events) - events["user"].nunique()
    return float(events.duplicated().sum() / n_rows) if data.timed and n_rows else 0.0


def choose_order(data: Interactions, asked: str | None) -> str:
    """Return how interactions of one moment are ordered, "file" or "random", and say so where it decides much.

    Args:
        data: what a filter left.
        asked: the setting; None decides by the share of ties.

    Raises:
        ConfigError: if a random order is asked for of a file without times.
    """
    if asked == "random" and not data.timed:
        raise ConfigError("--tie-order random without times: all there is would be drawn at random")
    share = tie_share(data)
    order = asked or ("random" if share > MOST else "file")
    if share > MOST:
        logger.warning(
            "%.0f %% of the rows have the time of the user's interaction before (one order, one day); %s",
            100 * share,
            "their order is drawn at random, as the file's could tell what comes next; --tie-order file keeps that"
            if order == "random"
            else "they stand in the order of the file, and figures say how well that is learned",
        )
    return order


def places(data: Interactions, order: str) -> Ints:
    """(E,) what interactions of one moment are ordered by: place in the file, or a number drawn for each.

    Drawn are numbers of the ids and the time, not of the place: more interactions leave the order of the others.
    """
    if order == "file":
        return np.arange(len(data), dtype=np.int64)
    ids = pd.DataFrame({"user": data.user_ids[data.user], "item": data.item_ids[data.item], "time": data.time})
    drawn = pd.util.hash_pandas_object(ids, index=False).to_numpy()
    return (drawn >> 1).astype(np.int64)  # as signed numbers, in the same order
