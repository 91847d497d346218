"""An approximate index of a large catalogue: finds the items near a user's vector without looking at all of them.

Shapes: M items, D width of item vectors, B users.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from flr_model.errors import MissingExtraError

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

ITEMS_PER_LIST = 512
"""Items of one inverted list, on average."""

LISTS_READ = 16
"""Lists that a search looks through; more find more and take longer."""

TRAINING_PER_LIST = 64
_BLOCK = 1 << 16


class FaissIndex:
    """Inverted lists with 8 bits per number (faiss), searched by dot product.

    What it finds is ranked exactly afterwards (`flr_model.ranking.recommender`): only a missed item can change a
    result.

    Args:
        index: of faiss, trained and filled.
    """

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def build(cls, vectors: Floats, *, seed: int = 0) -> FaissIndex:
        """Index (M, D) vectors, which may lie on disk: they go through memory in blocks.

        Raises:
            MissingExtraError: if faiss is not installed.
        """
        try:
            import faiss
        except ImportError:
            raise MissingExtraError("faiss", "ann") from None
        n_lists = max(1, len(vectors) // ITEMS_PER_LIST)
        n_sample = min(len(vectors), TRAINING_PER_LIST * n_lists)
        sample = np.sort(np.random.default_rng(seed).choice(len(vectors), n_sample, replace=False))
        index: Any = faiss.index_factory(vectors.shape[1], f"IVF{n_lists},SQ8", faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1
        index.nprobe = LISTS_READ
        logger.info("indexing %s items in %s lists", f"{len(vectors):,}", f"{n_lists:,}")
        index.train(np.ascontiguousarray(vectors[sample]))
        return cls(index).extended(vectors)

    def search(self, users: Floats, n: int) -> Ints:
        """Return (B, n) positions with a large dot product with each user (B, D), PAD where fewer were found."""
        positions: Ints = self._index.search(np.ascontiguousarray(users), min(n, self._index.ntotal))[1]
        return positions

    def extended(self, vectors: Floats) -> FaissIndex:
        """Return an index that also holds the vectors of items behind the present ones."""
        import faiss

        index = faiss.clone_index(self._index)
        for start in range(0, len(vectors), _BLOCK):
            index.add(np.ascontiguousarray(vectors[start : start + _BLOCK]))
        return FaissIndex(index)
