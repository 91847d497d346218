import numpy as np
import pytest

from flr_model.data.histories import HistoryRows
from flr_model.evaluation.baselines import BASELINES, Cooccurrence, Popularity


def test_popularity_counts_targets_and_gives_everybody_the_same_scores():
    train = HistoryRows.from_lists([[3], [3], [3]], target=[0, 0, 1])
    scores = Popularity.fit(train, 4).scores(HistoryRows.from_lists([[0], [2, 1]]))
    assert scores.tolist() == [[2, 1, 0, 0], [2, 1, 0, 0]]


def test_popularity_leaves_out_rows_without_a_target():
    assert Popularity.fit(HistoryRows.from_lists([[0], [1]]), 2).counts.tolist() == [0, 0]


def test_cooccurrence_weighs_pairs_by_distance_in_both_directions():
    # Row 3, 0, 1, 2 -> 4: items 2, 1, 0 lie 1, 2, 3 steps before the target; item 3 is outside the window.
    model = Cooccurrence.fit(HistoryRows.from_lists([[3, 0, 1, 2]], target=[4]), 5)
    one = [[item] for item in range(5)]
    scores = model.scores(HistoryRows.from_lists(one))
    expected = np.zeros((5, 5))
    expected[[0, 1, 2], 4] = expected[4, [0, 1, 2]] = [1 / 3, 1 / 2, 1]
    assert scores == pytest.approx(expected, abs=2e-3)


def test_cooccurrence_sums_over_the_history_with_less_weight_on_older_items():
    train = HistoryRows.from_lists([[0], [1], [1]], target=[2, 2, 3])
    scores = Cooccurrence.fit(train, 4).scores(HistoryRows.from_lists([[0, 1]]))
    assert scores[0, 2] == pytest.approx(1 + 1 / 2, abs=2e-3)
    assert scores[0, 3] == pytest.approx(1, abs=2e-3)


def test_cooccurrence_orders_items_without_pairs_by_popularity():
    train = HistoryRows.from_lists([[0], [0], [0]], target=[1, 1, 2])
    scores = Cooccurrence.fit(train, 5).scores(HistoryRows.from_lists([[4]]))
    assert np.argsort(-scores[0]).tolist()[:2] == [1, 2]
    assert scores.max() < 0.01


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_score_empty_histories_and_empty_batches(name):
    model = BASELINES[name].fit(HistoryRows.from_lists([[0]], target=[1]), 3)
    assert model.scores(HistoryRows.from_lists([[], [0]])).shape == (2, 3)
    assert model.scores(HistoryRows.from_lists([])).shape == (0, 3)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_give_float32(name):
    model = BASELINES[name].fit(HistoryRows.from_lists([[0]], target=[1]), 3)
    assert model.scores(HistoryRows.from_lists([[0]])).dtype == np.float32
