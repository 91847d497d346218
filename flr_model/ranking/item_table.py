"""What a network reads of the items of a catalogue, and the inputs of histories that it makes of them.

Shapes: B histories, L history positions, S tokens, M items, D width of item vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flr_model.arrays import Floats, Ints
from flr_model.data.histories import PAD
from flr_model.ranking.lags import PaddedHistories
from flr_model.titles.tokens import TextBatch


@dataclass(frozen=True)
class ItemTable:
    """The items of a catalogue, frozen.

    Args:
        vectors: (M, D) item vectors; they may lie on disk.
        text: writes (B, L) histories as tokens; None for the `items` encoding.
    """

    vectors: Floats
    text: Callable[[Ints], TextBatch] | None = None

    def inputs(self, histories: PaddedHistories) -> dict[str, npt.NDArray[Any]]:
        """Return the network's inputs of B histories of L columns.

        Returns:
            item_vectors (B, L, D), zero at padding, history_mask and history_lag (B, L); for `text` also input_ids,
            attention_mask and token_slot, (B, S) each.
        """
        vectors = self.vectors[np.maximum(histories.items, 0)].astype(np.float32, copy=False)
        vectors[histories.items == PAD] = 0
        inputs: dict[str, npt.NDArray[Any]] = {
            "item_vectors": vectors,
            "history_mask": (histories.items != PAD).astype(np.int64),
            "history_lag": histories.lags,
        }
        return inputs if self.text is None else inputs | self.text(histories.items)._asdict()
