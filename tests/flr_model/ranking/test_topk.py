import numpy as np
import pytest

from flr_model.data.histories import PAD
from flr_model.ranking.topk import Best, best_items, better, take


def test_equal_scores_keep_the_order_of_positions():
    scores = np.asarray([[1, 2, 1, 2, 1]], np.float32)
    assert best_items(scores, 3).tolist() == [[1, 3, 0]]
    assert best_items(scores, 5).tolist() == [[1, 3, 0, 2, 4]]


def test_items_at_minus_infinity_are_no_candidates():
    scores = np.asarray([[-np.inf, 1, -np.inf], [-np.inf] * 3], np.float32)
    assert best_items(scores, 2).tolist() == [[1, PAD], [PAD, PAD]]


@pytest.mark.parametrize("split", [1, 17, 39])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_two_halves_rank_as_the_whole_does(split, k):
    rng = np.random.default_rng(0)
    scores = rng.integers(-2, 3, (7, 40)).astype(np.float32)  # many ties
    scores[rng.random((7, 40)) < 0.3] = -np.inf
    halves = []
    for start, stop in ((0, split), (split, 40)):
        items = best_items(scores[:, start:stop], k)
        halves.append(Best(np.where(items == PAD, PAD, items + start), take(scores[:, start:stop], items)))
    joined = better(*halves, k)
    expected = best_items(scores, k)
    assert joined.items.tolist() == expected.tolist()
    assert joined.scores.tolist() == take(scores, expected).tolist()
