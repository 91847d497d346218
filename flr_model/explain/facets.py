"""One user in words: what each factor looks at and would recommend, and what each recommendation is made of.

All numbers are those that ranking uses: gates, attention, the factors' distributions over the catalogue, and the parts
of a recommendation (`flr_model.ranking.parts`). Where a history has an item several times, its shares are added up.

Shapes: K factors, L history positions, M items, k recommendations.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flr_model.arrays import Floats, Ints
from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD, HistoryRows
from flr_model.errors import ConfigError, DataError
from flr_model.explain.names import name_facets
from flr_model.ranking.candidates import UNSEEN
from flr_model.ranking.mixture import TINY, Mixture
from flr_model.ranking.parts import Parts
from flr_model.ranking.recommender import Recommender, UserStates
from flr_model.ranking.topk import best_items, take

logger = logging.getLogger(__name__)

SHOWN = 3
"""Recommendations of one factor alone; at most as many history items name a facet."""

NAMING = 0.2
"""Titles name a facet that have at least this part of the first one's attention, or probability."""


@dataclass(frozen=True)
class HistoryShare:
    """A history item, and its share of a factor's attention or of a recommendation."""

    item_id: str
    title: str
    share: float


@dataclass(frozen=True)
class Choice:
    """An item that a factor alone would recommend, and its probability by that factor."""

    item_id: str
    title: str
    probability: float


@dataclass(frozen=True)
class Facet:
    """One factor, as it sees the user.

    Args:
        factor: its number, from 1, as in the columns of `flr score`.
        name: made of the titles that it looks at and recommends most.
        gate: its weight in the prediction; the gates add up to 1.
        looks_at: the history items by attention, largest first; they add up to 1.
        recommends: the best unseen items by this factor alone.
    """

    factor: int
    name: str
    gate: float
    looks_at: tuple[HistoryShare, ...]
    recommends: tuple[Choice, ...]


@dataclass(frozen=True)
class Reason:
    """What one recommendation is made of.

    Args:
        rank: its place among the unseen items, from 1; None for an item of the history, which is not recommended.
        item_id: the item.
        title: its title.
        probability: among the whole catalogue.
        shares: (K,) each factor's share of it; they add up to 1.
        counted: the share of it that comes of counting what was bought together; the rest comes of titles.
        history: the history items behind it, largest first; their shares add up to at most 1.
    """

    rank: int | None
    item_id: str
    title: str
    probability: float
    shares: tuple[float, ...]
    counted: float
    history: tuple[HistoryShare, ...]


@dataclass(frozen=True)
class Explanation:
    """One user's facets, and the reasons of the recommendations.

    Args:
        user_id: the user.
        history_items: how many items of the history, the newest, the network reads.
        facets: one per factor.
        reasons: of the recommendations, best first, or of the one item that was asked for.
    """

    user_id: str
    history_items: int
    facets: tuple[Facet, ...]
    reasons: tuple[Reason, ...]


def explain(recommender: Recommender, row: HistoryRows, *, top_k: int, item: str | None = None) -> Explanation:
    """Explain one user's recommendations, or, where titles are written, the factors' part in them.

    Args:
        recommender: one whose factors' prediction counts.
        row: the history of one user.
        top_k: recommendations to explain, of the items that the user has not seen.
        item: external id of the one item to explain instead, seen or not.

    Raises:
        ConfigError: if titles are written without guidance by the factors.
        DataError: if the item is not known.
    """
    catalog = recommender.catalog
    wanted = None if item is None else _position(catalog, item)
    states = recommender.states(row)
    mixture = recommender.mixture(row, states)
    if mixture is None:
        raise ConfigError(
            "recommendations of --decoder title cannot be explained without guidance: its factors make one thought",
            hint="`flr score` writes the gates and the history item that is looked at most",
        )
    if not recommender.scores_items:
        logger.warning("explained is the factors' prediction; in the search for titles the language model counts too")
    scores = mixture.log_probabilities()  # (1, M)
    unseen = UNSEEN.mask(scores.copy(), row)
    items = best_items(unseen, top_k) if wanted is None else np.asarray([[wanted]])
    items = items[:, items[0] != PAD]
    return Explanation(
        user_id=str(row.user_id[0]),
        history_items=min(int(row.lengths[0]), recommender.max_history),
        facets=_facets(catalog, row, states, mixture),
        reasons=_reasons(recommender, row, states, mixture, items, np.exp(take(scores, items)), unseen[0]),
    )


def _position(catalog: Catalog, item: str) -> int:
    position = int(catalog.positions([item])[0])
    if position == PAD:
        known = ", ".join(map(str, catalog.item_ids[:3]))
        raise DataError(
            f"item {item!r} is none of the {len(catalog):,} that the bundle knows, for instance {known}",
            hint="name an item of the bundle's items.parquet with --item",
        )
    return position


def _facets(catalog: Catalog, row: HistoryRows, states: UserStates, mixture: Mixture) -> tuple[Facet, ...]:
    history = row.padded(states.attention.shape[2])[0]
    gates = states.gates[0]
    alone = mixture.factor_log_probabilities()[0] - np.log(np.maximum(gates, TINY))[:, None]  # (K, M)
    alone[:, row.seen()[1]] = -np.inf
    best = best_items(alone, SHOWN)
    probabilities = np.exp(take(alone, best))
    looks_at = [_by_item(catalog, history, attention) for attention in states.attention[0]]
    recommends = [
        tuple(
            Choice(str(catalog.item_ids[item]), str(catalog.titles[item]), float(chance))
            for item, chance in zip(items, chances, strict=True)
            if item != PAD
        )
        for items, chances in zip(best, probabilities, strict=True)
    ]
    titles = [
        [part.title for part in seen[:SHOWN] if part.share >= NAMING * seen[0].share]
        + [choice.title for choice in new if choice.probability >= NAMING * new[0].probability]
        for seen, new in zip(looks_at, recommends, strict=True)
    ]
    names = name_facets(titles, catalog.titles.tolist())
    parts = zip(names, gates, looks_at, recommends, strict=True)
    return tuple(Facet(k, name, float(gate), seen, new) for k, (name, gate, seen, new) in enumerate(parts, 1))


def _reasons(
    recommender: Recommender,
    row: HistoryRows,
    states: UserStates,
    mixture: Mixture,
    items: Ints,
    probabilities: Floats,
    unseen: Floats,
) -> tuple[Reason, ...]:
    """Take items (1, k) of probabilities (1, k) apart; the (M,) scores of unseen items tell their ranks."""
    if not items.size:
        return ()
    catalog = recommender.catalog
    shares = mixture.shares(items)  # (1, k, K)
    parts = Parts.of(recommender.evidence, mixture, states, row, items)
    counted = parts.counted(shares)
    carried = parts.carried(shares)[0]  # (k, L)
    return tuple(
        Reason(
            rank=_rank(unseen, item),
            item_id=str(catalog.item_ids[item]),
            title=str(catalog.titles[item]),
            probability=float(probabilities[0, place]),
            shares=tuple(shares[0, place].tolist()),
            counted=float(counted[0, place]),
            history=_by_item(catalog, parts.history[0], carried[place]),
        )
        for place, item in enumerate(items[0].tolist())
    )


def _rank(unseen: Floats, item: int) -> int | None:
    """Return the item's place among (M,) scores, equal ones in order of position; None where it is no candidate."""
    score = unseen[item]
    if np.isneginf(score):
        return None
    return 1 + int((unseen > score).sum()) + int((unseen[:item] == score).sum())


def _by_item(catalog: Catalog, history: Ints, shares: Sequence[float] | Floats) -> tuple[HistoryShare, ...]:
    """Add up the shares of (L,) history positions by item: largest first, the newest of equals first."""
    items, newest, which = np.unique(history[::-1], return_index=True, return_inverse=True)
    sums = np.bincount(which, np.asarray(shares)[::-1])
    return tuple(
        HistoryShare(str(catalog.item_ids[items[n]]), str(catalog.titles[items[n]]), float(sums[n]))
        for n in np.lexsort((newest, -sums))
        if items[n] != PAD and sums[n] > 0
    )
