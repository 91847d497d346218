import numpy as np
import pytest

from flr_model.data.histories import PAD
from flr_model.ranking import topk
from flr_model.ranking.evidence import SparseScores
from flr_model.ranking.topk import best_items, best_of_all, best_of_candidates, evidence_at


def test_equal_scores_keep_the_order_of_positions():
    scores = np.asarray([[1, 2, 1, 2, 1]], np.float32)
    assert best_items(scores, 3).tolist() == [[1, 3, 0]]
    assert best_items(scores, 5).tolist() == [[1, 3, 0, 2, 4]]


def test_items_at_minus_infinity_are_no_candidates():
    scores = np.asarray([[-np.inf, 1, -np.inf], [-np.inf] * 3], np.float32)
    assert best_items(scores, 2).tolist() == [[1, PAD], [PAD, PAD]]


@pytest.fixture
def case():
    """Users, vectors, evidence and hidden items of whole numbers, so that sums are exact and ties are many."""
    rng = np.random.default_rng(0)
    users, vectors = (rng.integers(-2, 3, shape).astype(np.float32) for shape in ((7, 3), (40, 3)))
    dense = rng.integers(0, 2, (7, 40)) * rng.integers(1, 5, (7, 40))
    row, item = np.nonzero(dense)
    hidden = np.nonzero(rng.random((7, 40)) < 0.3)
    evidence = SparseScores(row, item, dense[row, item].astype(np.float32))
    scores = users @ vectors.T + dense
    scores[hidden] = -np.inf
    return users, vectors, evidence, hidden, scores


def by_sorting(scores, k):
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    return np.where(best == -np.inf, PAD, order).tolist(), best.tolist()


@pytest.mark.parametrize("block_scores", [1, 7 * 13, 1 << 22])
@pytest.mark.parametrize("k", [1, 5, 40, 60])
def test_the_catalogue_in_blocks_ranks_as_sorting_all_scores_does(case, monkeypatch, block_scores, k):
    monkeypatch.setattr(topk, "BLOCK_SCORES", block_scores)
    best = best_of_all(*case[:4], k)
    assert (best.items.tolist(), best.scores.tolist()) == by_sorting(case[4], k)


@pytest.mark.parametrize("k", [1, 5, 60])
def test_candidates_rank_as_sorting_their_scores_does(case, k):
    rng = np.random.default_rng(1)
    candidates = [np.flatnonzero(rng.random(40) < share) for share in np.linspace(0, 1, 7)]
    scores = np.full_like(case[4], -np.inf)
    for user, own in enumerate(candidates):
        scores[user, own] = case[4][user, own]
    users, vectors, evidence, hidden, _ = case
    any_order = rng.permutation(len(hidden[0]))
    best = best_of_candidates(users, vectors, evidence, (hidden[0][any_order], hidden[1][any_order]), k, candidates)
    assert (best.items.tolist(), best.scores.tolist()) == by_sorting(scores, k)


def test_evidence_is_found_where_it_is_and_zero_elsewhere():
    evidence = SparseScores(np.asarray([0, 0, 1]), np.asarray([1, 3, 0]), np.asarray([5, 6, 7], np.float32))
    assert evidence_at(evidence, np.asarray([[3, 0], [3, 0]]), 4).tolist() == [[6, 0], [0, 7]]
    none = SparseScores(*(np.zeros(0, np.int64),) * 2, np.zeros(0, np.float32))
    assert evidence_at(none, np.asarray([[3, PAD]]), 4).tolist() == [[0, 0]]
