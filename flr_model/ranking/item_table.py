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

    def inputs(self, histories: Ints) -> dict[str, npt.NDArray[Any]]:
        """Return the network's inputs of (B, L) histories, padded on the left with PAD.

        Returns:
            item_vectors (B, L, D), zero at padding, and history_mask (B, L); for `text` also input_ids,
            attention_mask and token_slot, (B, S) each.
        """
        vectors = self.vectors[np.maximum(histories, 0)].astype(np.float32, copy=False)
        vectors[histories == PAD] = 0
        inputs: dict[str, npt.NDArray[Any]] = {
            "item_vectors": vectors,
            "history_mask": (histories != PAD).astype(np.int64),
        }
        return inputs if self.text is None else inputs | self.text(histories)._asdict()
