"""What the factors are about over many users, and some users with their recommendations, in titles.

Shapes: R rows, B rows of a batch, K factors, L history positions, M items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD, HistoryRows
from flr_model.explain.names import name_facets
from flr_model.ranking.recommender import Recommender

SAMPLE = 256
"""Most rows that are read for portraits."""

TITLES = 5
"""Titles of a portrait, at most; of them, those with at least `NAMING` of the first one's weight name it."""
NAMING = 0.2

_CELLS = 1 << 23
"""Cells of the factors' distributions that are in memory at once."""

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Portrait:
    """One factor, over many users.

    Args:
        factor: its number, from 1.
        name: words that the titles below share.
        gate: its mean weight in the prediction; the gates add up to 1.
        loudest: share of the users for whom it has the largest weight.
        looks_at: titles that it looks at more than the other factors do, most telling first.
        recommends: likewise of what it recommends alone; empty where no factor ranks alone.
    """

    factor: int
    name: str
    gate: float
    loudest: float
    looks_at: tuple[str, ...]
    recommends: tuple[str, ...]


@dataclass(frozen=True)
class Recommendation:
    """One recommendation of an example.

    Args:
        title: of the item.
        hit: whether it is what the user took next.
        score: its probability (with the decoder of titles, its likelihood).
        factor: number of the factor with the largest share in it, from 1.
        share: that share.
        because: title of the history item that carries it most; "" where there is none.
    """

    title: str
    hit: bool
    score: float
    factor: int
    share: float
    because: str


@dataclass(frozen=True)
class Example:
    """One user.

    Args:
        user_id: who.
        history: titles, newest first.
        target: title of what the user took next.
        recommendations: best first.
    """

    user_id: str
    history: tuple[str, ...]
    target: str
    recommendations: tuple[Recommendation, ...]


def portraits(recommender: Recommender, rows: HistoryRows) -> tuple[Portrait, ...]:
    """Describe the factors by an evenly spaced sample of rows."""
    rows = rows.subsample(SAMPLE)
    catalog, n_factors = recommender.catalog, recommender.n_factors
    seen, new = np.zeros((2, n_factors, len(catalog)))
    gates = []
    step = int(np.clip(_CELLS // (n_factors * len(catalog)), 1, 64))
    for start in range(0, len(rows), step):
        batch = rows.select(slice(start, start + step))
        states = recommender.states(batch)
        gates.append(states.gates.astype(np.float64))
        items = batch.padded(states.attention.shape[2])
        weights = states.gates[:, :, None] * states.attention  # (B, K, L)
        for factor in range(n_factors):
            np.add.at(seen[factor], items[items != PAD], weights[:, factor][items != PAD])
        scores = recommender.factor_scores(batch)  # (B, K, M)
        if scores is not None:
            chances = np.exp(scores)
            row, item = batch.seen()
            chances[row, :, item] = 0
            new += chances.sum(axis=0)
    return _described(catalog, np.concatenate(gates), telling(seen), telling(new))


def _described(catalog: Catalog, gates: Doubles, seen: Doubles, new: Doubles) -> tuple[Portrait, ...]:
    looks_at, recommends = ([_titles(catalog, weights) for weights in of_all] for of_all in (seen, new))
    names = name_facets([[*a, *b] for a, b in zip(looks_at, recommends, strict=True)], catalog.titles.tolist())
    loudest = np.bincount(gates.argmax(axis=1), minlength=gates.shape[1]) / len(gates)
    parts = zip(names, gates.mean(axis=0).tolist(), loudest.tolist(), looks_at, recommends, strict=True)
    return tuple(Portrait(factor, *part) for factor, part in enumerate(parts, 1))


def telling(mass: Doubles) -> Doubles:
    """Weigh items by how much they tell a factor from the others: its part of the divergence from their mean.

    Args:
        mass: (K, M) what each factor gives each item.

    Returns:
        (K, M) p_k log(p_k / mean over factors of p), at least 0; p_k itself with one factor.

    >>> telling(np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])).round(2).tolist()
    [[0.0, 0.35, 0.0], [0.0, 0.0, 0.35]]
    """
    share = mass / np.maximum(mass.sum(axis=1, keepdims=True), 1e-38)
    if len(share) == 1:
        alone: Doubles = share
        return alone
    mean = share.mean(axis=0)
    ratio = np.divide(share, mean, out=np.ones_like(share), where=(share > 0) & (mean > 0))
    weights: Doubles = np.maximum(share * np.log(ratio), 0)
    return weights


def _titles(catalog: Catalog, weights: Doubles) -> tuple[str, ...]:
    best = np.argsort(-weights, kind="stable")[:TITLES]
    return tuple(str(catalog.titles[item]) for item in best if weights[item] > NAMING * weights[best[0]])


def examples(recommender: Recommender, rows: HistoryRows, *, n: int = 10, top_k: int = 5) -> tuple[Example, ...]:
    """Recommend for ``n`` users, evenly spaced over rows with known targets."""
    picked = rows.subsample(n)
    titles = recommender.catalog.titles
    ranking = recommender.recommend(picked, top_k)
    found = []
    for row in range(len(picked)):
        history = picked.items[picked.offsets[row] : picked.offsets[row + 1]][::-1]
        places = [place for place in range(top_k) if ranking.items[row, place] != PAD]
        because = [int(ranking.because[row, place]) for place in places]
        recommended = tuple(
            Recommendation(
                title=str(titles[ranking.items[row, place]]),
                hit=bool(ranking.items[row, place] == picked.target[row]),
                score=float(np.exp(ranking.scores[row, place])),
                factor=int(ranking.shares[row, place].argmax()) + 1,
                share=float(ranking.shares[row, place].max()),
                because="" if carrier == PAD else str(titles[carrier]),
            )
            for place, carrier in zip(places, because, strict=True)
        )
        shown = tuple(map(str, titles[history[:TITLES]]))
        found.append(Example(str(picked.user_id[row]), shown, str(titles[picked.target[row]]), recommended))
    return tuple(found)
