"""The mixture of factors over a catalogue, exactly: each factor is a distribution over all items, the gates weigh them.

P(i) = sum_k g_k P_k(i), P_k(i) = softmax_i(q_k . e_i + c_k(i) + s(i)), where c_k is what factor k counted of item i and
s is added to the logits of seen items (docs/method.md, "Prediction").

A catalogue of any size goes through memory in blocks: one pass sums what normalises each factor, a second one makes the
probabilities; where one block holds everything the two are one.

Shapes: B users, K factors, D width of item vectors, M items, m items of a block, k places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from flr_model.arrays import Bools, Floats, Ints
from flr_model.data.histories import PAD
from flr_model.ranking.factor_counts import FactorCounts
from flr_model.ranking.topk import Best, best_items, better, take

BLOCK_LOGITS = 1 << 22
"""Logits that are in memory at once, 16 MiB; a larger catalogue goes through in blocks."""

SAMPLE = 4096
"""Items that stand for those which an approximate index did not find, where the factors are normalised without them."""

TINY = np.float32(1e-38)
"""Least probability; a factor's float32 would lose the item."""


class Normalizers(NamedTuple):
    """What makes probabilities of exponentials: (B, K) largest logits, and sums of exp(logit - largest)."""

    largest: Floats
    total: Floats


@dataclass(frozen=True)
class Mixture:
    """What K factors say of a catalogue to B users.

    Args:
        queries: (B, K, D) in item space.
        gates: (B, K), rows sum to 1.
        vectors: (M, D); may lie on disk.
        counts: what the factors counted, as logits.
        seen: rows and items that users have interacted with, each pair once.
        seen_logit: added to the logits of those.
    """

    queries: Floats
    gates: Floats
    vectors: Floats
    counts: FactorCounts
    seen: tuple[Ints, Ints]
    seen_logit: float

    def best(
        self, hidden: tuple[Ints, Ints], top_k: int, offered: Bools | None = None, boost: Floats | None = None
    ) -> Best:
        """Rank the whole catalogue.

        Args:
            hidden: rows and items that are no candidates.
            top_k: k; at most M places are returned.
            offered: (M,) the items that are candidates of anybody; None for all.
            boost: (M,) added to the logarithm of each probability; None for nothing.

        Returns:
            The best items and the logarithms of their probabilities.
        """
        top_k = min(top_k, len(self.vectors))
        best = None if offered is None else Best.nothing(len(self.queries), top_k)
        for start, scores in self._log_probabilities():
            if boost is not None:
                scores += boost[start : start + scores.shape[1]]
            scores[within(start, scores.shape[1], *hidden)] = -np.inf
            columns = np.arange(scores.shape[1])
            if offered is not None:
                columns = np.flatnonzero(offered[start : start + len(columns)])
                scores = scores.take(columns, axis=1)
            if not len(columns):
                continue
            places = best_items(scores, top_k)
            here = Best(np.where(places == PAD, PAD, columns[places] + start), take(scores, places))
            best = here if best is None else better(best, here, top_k)
        assert best is not None
        return best

    def best_of(
        self,
        hidden: tuple[Ints, Ints],
        top_k: int,
        candidates: Sequence[Ints | None],
        offered: Bools | None = None,
        boost: Floats | None = None,
        *,
        estimate: bool = False,
    ) -> Best:
        """Rank given candidates by their probability among the whole catalogue, as `best` would.

        Args:
            hidden: rows and items that are no candidates.
            top_k: k; at most M places are returned.
            candidates: positions for each user, ascending and distinct; None for all.
            offered: (M,) those of them that may be ranked; None for all.
            boost: (M,) added to the logarithm of each probability; None for nothing.
            estimate: normalise the factors by the candidates and a sample of the other items, not by all of them; for
                candidates that hold whatever has a large probability.
        """
        n, top_k = len(self.queries), min(top_k, len(self.vectors))
        if estimate:
            self.__dict__["normalizers"] = self._estimated(candidates)
        best = Best.nothing(n, top_k)
        hidden_items = hidden[1][np.argsort(hidden[0], kind="stable")]
        hidden_of_user = np.searchsorted(np.sort(hidden[0]), np.arange(n + 1))
        for user, given in enumerate(candidates):
            own = np.arange(len(self.vectors)) if given is None else given
            own = own if offered is None else own[offered[own]]
            own = np.setdiff1d(own, hidden_items[hidden_of_user[user] : hidden_of_user[user + 1]])
            if not len(own):
                continue
            scores = np.log(np.maximum(self._joint(np.full(len(own), user), own).sum(1), TINY))
            scores = scores if boost is None else scores + boost[own]
            places = best_items(scores[None], top_k)[0]
            best.items[user, : len(places)], best.scores[user, : len(places)] = own[places], scores[places]
        return best

    def _estimated(self, candidates: Sequence[Ints | None]) -> Normalizers:
        """Normalise by each user's candidates, and by a sample that stands for the rest of the catalogue."""
        n_items = len(self.vectors)
        sample = np.linspace(0, n_items - 1, min(SAMPLE, n_items)).astype(np.int64)
        n, k, width = self.queries.shape
        others = (self.queries.reshape(n * k, width) @ self.vectors[sample].T).reshape(n, k, -1)
        found = []
        for user, given in enumerate(candidates):
            own = np.arange(n_items) if given is None else np.union1d(given, self.seen[1][self.seen[0] == user])
            logits = self._logits(np.full(len(own), user), own).T[None]  # (1, K, n)
            rest = ~np.isin(sample, own)
            weight = np.float32(np.log(max(n_items - len(own), 1) / max(rest.sum(), 1)))
            start = np.full((1, k), -np.inf, np.float32), np.zeros((1, k), np.float32)
            both = _added(*start, np.concatenate([logits, others[user : user + 1, :, rest] + weight], axis=2))
            found.append(both)
        return Normalizers(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def log_probabilities(self) -> Floats:
        """Return (B, M) log P(i)."""
        return np.concatenate([scores for _, scores in self._log_probabilities()], axis=1)

    def factor_log_probabilities(self) -> Floats:
        """Return (B, K, M) log g_k P_k(i); it takes K times the memory of the scores."""
        largest, total = self.normalizers
        offset = np.log(np.maximum(self.gates, TINY)) - largest - np.log(total)
        return np.concatenate([logits + offset[..., None] for _, logits in self._blocks()], axis=2)

    def shares(self, items: Ints) -> Floats:
        """Return (B, k, K) the factors' shares g_k P_k(i) / P(i) of items (B, k): they add up to 1; zeros at PAD."""
        user = np.repeat(np.arange(len(items)), items.shape[1])
        joint = self._joint(user, np.maximum(items, 0).ravel())
        shares = joint / np.maximum(joint.sum(1, keepdims=True), TINY)
        return np.where((items == PAD)[..., None], np.float32(0), shares.reshape(*items.shape, -1))

    @cached_property
    def normalizers(self) -> Normalizers:
        """Of each user's factors, over the whole catalogue."""
        shape = self.gates.shape
        largest, total = np.full(shape, -np.inf, np.float32), np.zeros(shape, np.float32)
        for _, logits in self._blocks():
            largest, total = _added(largest, total, logits)
        return Normalizers(largest, total)

    def _joint(self, user: Ints, item: Ints) -> Floats:
        """(n, K) g_k P_k(i) of pairs of a user and an item."""
        largest, total = self.normalizers
        joint: Floats = self.gates[user] * np.exp(self._logits(user, item) - largest[user]) / total[user]
        return joint

    def _logits(self, user: Ints, item: Ints) -> Floats:
        """(n, K) of pairs of a user and an item."""
        logits: Floats = np.matmul(self.queries[user], self.vectors[item][..., None])[..., 0]
        logits += self.counts.at(user, item, len(self.vectors))
        was_seen = np.isin(user * len(self.vectors) + item, self.seen[0] * len(self.vectors) + self.seen[1])
        logits += np.where(was_seen, np.float32(self.seen_logit), np.float32(0))[:, None]
        return logits

    def _log_probabilities(self) -> Iterator[tuple[int, Floats]]:
        """Give where each block begins, and (B, m) log P of its items."""
        size = self._block_size()
        if size >= len(self.vectors):  # one pass: the block is all there is
            ((_, logits),) = self._blocks()
            largest = logits.max(axis=2, initial=-np.inf)
            np.exp(np.subtract(logits, largest[..., None], out=logits), out=logits)
            total = logits.sum(axis=2)
            self.__dict__["normalizers"] = Normalizers(largest, total)
            yield 0, self._mixed(logits, total)
            return
        largest, total = self.normalizers
        for start, logits in self._blocks():
            np.exp(np.subtract(logits, largest[..., None], out=logits), out=logits)
            yield start, self._mixed(logits, total)

    def _mixed(self, exponentials: Floats, total: Floats) -> Floats:
        """(B, m) log P of (B, K, m) exponentials."""
        probability = np.matmul((self.gates / total)[:, None], exponentials)[:, 0]
        logs: Floats = np.log(np.maximum(probability, TINY, out=probability), out=probability)
        return logs

    def _blocks(self) -> Iterator[tuple[int, Floats]]:
        """Give where each block of the catalogue begins, and the (B, K, m) logits of its items."""
        n, k, width = self.queries.shape
        size = self._block_size()
        flat = self.queries.reshape(n * k, width)
        for start in range(0, len(self.vectors), size):
            logits = (flat @ self.vectors[start : start + size].T).reshape(n, k, -1)
            self.counts.add_to(logits, start)
            row, item = within(start, logits.shape[2], *self.seen)
            logits[row, :, item] += np.float32(self.seen_logit)
            yield start, logits

    def _block_size(self) -> int:
        return max(BLOCK_LOGITS // max(self.gates.size, 1), 1)


def within(start: int, size: int, row: Ints, item: Ints) -> tuple[Ints, Ints]:
    """Keep what concerns the ``size`` items of the block at ``start``, and count the items from there."""
    here = (item >= start) & (item < start + size)
    return row[here], item[here] - start


def _added(largest: Floats, total: Floats, logits: Floats) -> Normalizers:
    """Add (B, K, m) logits to a running sum of exponentials."""
    top = np.maximum(largest, logits.max(axis=2, initial=-np.inf))
    before = np.where(np.isneginf(largest), 0, total * np.exp(largest - top))
    return Normalizers(top, (before + np.exp(logits - top[..., None]).sum(axis=2)).astype(np.float32))
