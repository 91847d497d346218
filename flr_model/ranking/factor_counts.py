"""What factors counted of the items of a catalogue for a batch of rows, as logits: of few places, or of all.

Shapes: R rows, K factors, M items, m items of a block, N counted places.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from flr_model.arrays import Floats, Ints


class FactorCounts(ABC):
    """Logits that the counts of K factors give the items of a catalogue."""

    @abstractmethod
    def at(self, row: Ints, item: Ints, n_items: int) -> Floats:
        """Return the (n, K) logits of places (n,) in a catalogue of ``n_items``."""

    @abstractmethod
    def add_to(self, logits: Floats, start: int) -> None:
        """Add to the (R, K, m) logits of the items from ``start`` on, in place."""

    @abstractmethod
    def items(self, n_rows: int) -> list[Ints]:
        """Return the items of each row that may have been counted, ascending."""


@dataclass(frozen=True)
class CountsOfPlaces(FactorCounts):
    """Logits where anything was counted; 0 elsewhere.

    Args:
        row, item: (N,) each place once, in order of row and item.
        value: (N, K).
    """

    row: Ints
    item: Ints
    value: Floats

    def at(self, row: Ints, item: Ints, n_items: int) -> Floats:
        """See `FactorCounts`."""
        if not len(self.row):
            return np.zeros((len(row), self.value.shape[1]), np.float32)
        keys, wanted = self.row * n_items + self.item, row * n_items + item
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((keys[place] == wanted)[:, None], self.value[place], np.float32(0))

    def add_to(self, logits: Floats, start: int) -> None:
        """See `FactorCounts`."""
        here = (self.item >= start) & (self.item < start + logits.shape[2])
        logits[self.row[here], :, self.item[here] - start] += self.value[here]

    def items(self, n_rows: int) -> list[Ints]:
        """See `FactorCounts`."""
        return np.split(self.item, np.searchsorted(self.row, np.arange(1, n_rows)))


@dataclass(frozen=True)
class CountsEverywhere(FactorCounts):
    """Logits of all items.

    Args:
        value: (R, K, M).
    """

    value: Floats

    def at(self, row: Ints, item: Ints, n_items: int) -> Floats:
        """See `FactorCounts`."""
        return self.value[row, :, item]

    def add_to(self, logits: Floats, start: int) -> None:
        """See `FactorCounts`."""
        logits += self.value[:, :, start : start + logits.shape[2]]

    def items(self, n_rows: int) -> list[Ints]:
        """See `FactorCounts`."""
        return [np.arange(self.value.shape[2])] * n_rows
