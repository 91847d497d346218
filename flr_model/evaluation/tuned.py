"""Baselines with settings, which are chosen on the validation rows: item neighbours, EASE, matrix factorization.

Item neighbours and ALS are implicit's (extra ``baselines``); EASE is a closed form that SciPy solves. All are fitted on
who had what in the training rows and read of a row its history alone, not who the user is.

Shapes: B rows of a batch, M items, U users, E distinct pairs of a user and an item.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flr_model.arrays import Floats, Ints
from flr_model.data.histories import PAD, HistoryRows
from flr_model.errors import needs_extra
from flr_model.progress import SILENT, Progress
from flr_model.ranking.candidates import EVERYTHING, Candidates
from flr_model.ranking.recommender import Scorer

Setting = Mapping[str, Any]


@dataclass(frozen=True)
class Linear:
    """Weights between items, times the items of the history.

    Args:
        weights: (M, M), dense or sparse.
    """

    weights: Any

    def scores(self, rows: HistoryRows, candidates: Candidates = EVERYTHING) -> Floats:
        """Return (B, M), -inf for no candidate."""
        scores = _histories(rows, self.weights.shape[0]) @ self.weights
        dense = scores.toarray() if hasattr(scores, "toarray") else scores
        return candidates.mask(np.asarray(dense, np.float32), rows)


@dataclass(frozen=True)
class Factors:
    """Items' vectors times a vector that is solved for from each row's history.

    Args:
        model: implicit's, fitted; its users' own vectors are not used.
    """

    model: Any

    def scores(self, rows: HistoryRows, candidates: Candidates = EVERYTHING) -> Floats:
        """Return (B, M), -inf for no candidate."""
        items = self.model.item_factors
        users = self.model.recalculate_user(np.arange(len(rows)), _histories(rows, len(items)))
        return candidates.mask(np.asarray(users @ items.T, np.float32), rows)


def fit_itemknn(train: HistoryRows, n_items: int, *, neighbours: int) -> Linear:
    """Find each item's nearest others by the cosine of who had them.

    Args:
        train: rows with known targets.
        n_items: M.
        neighbours: kept of each item.
    """
    from implicit.nearest_neighbours import CosineRecommender
    from implicit.utils import ParameterWarning
    from scipy import sparse

    model = CosineRecommender(K=neighbours + 1)  # each item is its own nearest
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParameterWarning)  # of how it calls itself
        model.fit(_matrix(*distinct_pairs(train), n_items), show_progress=False)
    return Linear((model.similarity - sparse.diags(model.similarity.diagonal())).tocsr())


def fit_ease(train: HistoryRows, n_items: int, *, reg_weight: float) -> Linear:
    """Solve for the weights between items that best give back who had what, none of an item to itself (Steck 2019).

    Holds M x M numbers: gigabytes from some 10,000 items on.

    Args:
        train: rows with known targets.
        n_items: M.
        reg_weight: of the squared weights.
    """
    matrix = _matrix(*distinct_pairs(train), n_items)
    gram = np.asarray((matrix.T @ matrix).todense(), np.float64)
    gram[np.diag_indices(n_items)] += reg_weight
    inverse = np.linalg.inv(gram)
    weights = (inverse / -np.diag(inverse)).astype(np.float32)
    np.fill_diagonal(weights, 0)
    return Linear(weights)


def fit_als(
    train: HistoryRows, n_items: int, *, factors: int, alpha: float, regularization: float, seed: int = 0
) -> Factors:
    """Factorize who had what by alternating least squares.

    Args:
        train: rows with known targets.
        n_items: M.
        factors: numbers of a vector.
        alpha: weight of what was had against what was not.
        regularization: of the squared vectors.
        seed: of the initial vectors.
    """
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):  # it has threads of its own
        model = AlternatingLeastSquares(factors=factors, alpha=alpha, regularization=regularization, random_state=seed)
        model.fit(_matrix(*distinct_pairs(train), n_items), show_progress=False)
    return Factors(model)


FITS: dict[str, Callable[..., Scorer]] = {"itemknn": fit_itemknn, "ease": fit_ease, "als": fit_als}

GRIDS: dict[str, list[dict[str, Any]]] = {
    "itemknn": [{"neighbours": n} for n in (100, 20, 50, 200, 500)],
    "ease": [{"reg_weight": weight} for weight in (10.0, 50.0, 200.0, 500.0, 1000.0, 2000.0, 1.0)],
    "als": [
        {"factors": factors, "alpha": alpha, "regularization": 0.01 * alpha}
        for sizes in ((64, 128), (32, 256))
        for alpha in (1.0, 10.0, 40.0)
        for factors in sizes
    ],
}
"""Settings per method, in the order in which they are tried."""


def check_installed(names: Iterable[str]) -> None:
    """Refuse baselines whose libraries are not there.

    Raises:
        MissingExtraError: if one of the names is in `FITS` and a library is not installed.
    """
    if not FITS.keys().isdisjoint(names):
        with needs_extra("baselines"):
            for library in ("implicit", "scipy", "threadpoolctl"):
                importlib.import_module(library)


@dataclass(frozen=True)
class Tuned:
    """A baseline with its best setting.

    Args:
        scorer: fitted.
        about: the setting, how many were tried, and how well the best one ranks the validation rows.
    """

    scorer: Scorer
    about: dict[str, Any]


def tune(
    name: str,
    train: HistoryRows,
    n_items: int,
    validate: Callable[[Scorer], float] | None,
    *,
    settings: Sequence[Setting] | None = None,
    progress: Progress = SILENT,
) -> Tuned:
    """Fit a baseline with each of its settings, and keep the one that validation likes best, of equal ones the first.

    Args:
        name: one of `FITS`.
        train: rows with known targets; no other rows are fitted on.
        n_items: M.
        validate: the validation NDCG@10 of a scorer; None takes the first setting.
        settings: to try; None takes those of `GRIDS`.
        progress: counts settings.
    """
    settings = settings or GRIDS[name]
    if validate is None:
        first = settings[0]
        return Tuned(FITS[name](train, n_items, **first), {**first, "settings_tried": 1})
    best: tuple[float, Setting, Scorer] | None = None
    with progress.task(len(settings), f"settings of {name}") as task:
        for setting in settings:
            scorer = FITS[name](train, n_items, **setting)
            valid = validate(scorer)
            if best is None or valid > best[0]:
                best = valid, setting, scorer
            task.advance(1)
    assert best is not None
    return Tuned(best[2], {**best[1], "settings_tried": len(settings), "valid_ndcg@10": round(best[0], 4)})


def distinct_pairs(rows: HistoryRows) -> tuple[Ints, Ints]:
    """Return (E,) users, numbered in order of their ids, and (E,) items: who had what, as history or as target."""
    user = np.unique(rows.user_id.astype(str), return_inverse=True)[1]
    known = rows.target != PAD
    users = np.concatenate([user[rows.row_of_item()], user[known]])
    items = np.concatenate([rows.items, rows.target[known]])
    pairs = np.unique(np.stack([users, items], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _matrix(users: Ints, items: Ints, n_items: int) -> Any:
    """(U, M) ones, sparse."""
    from scipy import sparse

    shape = (int(users.max(initial=-1)) + 1, n_items)
    return sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape)


def _histories(rows: HistoryRows, n_items: int) -> Any:
    """(B, M) one for every item of the history, however often it occurs; sparse."""
    from scipy import sparse

    matrix = sparse.csr_matrix(
        (np.ones(len(rows.items), np.float32), (rows.row_of_item(), rows.items)), (len(rows), n_items)
    )
    matrix.data[:] = 1
    return matrix
