from dataclasses import replace

import numpy as np
import pytest

from flr_export.building.parity import (
    check_parity,
    compare_rankings,
    largest_difference,
    overlap,
    shape_differences,
    validation_sample,
)
from flr_model.data.histories import PAD, HistoryRows
from flr_model.errors import GateError
from tests.export.toy import ToyReader, toy_recommender


class ShiftedReader(ToyReader):
    """The toy network with a constant added to one factor's queries."""

    def __init__(self, shift):
        self.shift = shift

    def read(self, histories, vectors, titles):
        states = super().read(histories, vectors, titles)
        queries = states.queries.copy()
        queries[:, 0] += self.shift
        return replace(states, queries=queries)


class ShapeRecorder(ToyReader):
    def __init__(self):
        self.shapes, self.lengths, self.lags = set(), set(), set()

    def read(self, histories, vectors, titles):
        real = histories.items != PAD
        self.shapes.add(real.shape)
        self.lags |= set(histories.lags[real].tolist())
        self.lengths |= set(real.sum(axis=1).tolist())
        assert (np.diff(real.astype(int), axis=1) >= 0).all(), "padding is on the left"
        assert not histories.lags[~real].any(), "padding has no lag"
        return super().read(histories, vectors, titles)


def test_equal_networks_have_no_difference():
    assert set(shape_differences(ToyReader(), ToyReader(), toy_recommender()).values()) == {0.0}


def test_a_difference_is_named_and_carried_to_the_scores():
    shift = np.asarray([0.5, 0.0], np.float32)
    found = shape_differences(ToyReader(), ShiftedReader(shift), toy_recommender())
    assert found["queries"] == pytest.approx(0.5)
    assert found["logits"] == pytest.approx(0.5)  # item a has the vector (1, 0)
    assert {name for name, value in found.items() if value} == {"queries", "logits"}
    assert set(found) == {"queries", "gates", "attention", "weights", "factors", "item_vectors", "logits"}


def test_shapes_cover_batches_lengths_and_padding():
    recorder = ShapeRecorder()
    shape_differences(ToyReader(), recorder, toy_recommender())
    assert recorder.shapes == {(n, length) for n in (1, 3, 17) for length in (1, 2, 3)}
    assert recorder.lengths == {1, 2, 3}
    assert recorder.lags == {0, 1}


ROWS = HistoryRows.from_lists([[0], [1]], target=[4, 5])


def rankings(shift):
    """Targets e and f. After [a] the toy ranks c, e, f, then all others; after [b] d, f, then all others."""
    changed = toy_recommender(ShiftedReader(np.asarray(shift, np.float32)))
    return compare_rankings(toy_recommender(), changed, ROWS)


def test_the_same_users_rank_the_same():
    same = rankings([0, 0])
    assert (same.rows, same.max_score_difference, same.identical_top10, same.top10_overlap) == (2, 0.0, 1.0, 1.0)
    assert same.reference == same.candidate
    assert same.reference["NDCG@10"] == pytest.approx(1 / np.log2(3))  # both targets are second
    assert same.ndcg_loss == 0


def test_a_changed_order_counts_though_the_items_are_the_same():
    changed = rankings([0, 3])  # changes the order after [a] only
    assert changed.identical_top10 == 0.5
    assert changed.top10_overlap == 1
    scores = [toy_recommender(reader).scores(ROWS) for reader in (ToyReader(), ShiftedReader(np.asarray([0, 3])))]
    seen = np.asarray([[True] + [False] * 5, [False, True] + [False] * 4])  # of which there is nothing to compare
    assert changed.max_score_difference == pytest.approx(np.abs(scores[0] - scores[1])[~seen].max())


def test_the_loss_is_relative_to_the_reference():
    # After [a] item e falls behind f, b and d, and c: 0.9, 0.8 against 2.4 + ln 2, 3.0, 2.7.
    changed = rankings([0, 3])
    after = (1 / np.log2(6) + 1 / np.log2(3)) / 2
    assert changed.candidate["NDCG@10"] == pytest.approx(after)
    assert changed.ndcg_loss == pytest.approx(1 - after * np.log2(3))


def test_parity_within_the_tolerance_passes():
    check_parity({"queries": 1e-3}, rankings([0, 0]), 1e-3)


@pytest.mark.parametrize("value", [2e-3, float("nan"), float("inf")])
def test_parity_refuses_what_is_above_or_not_a_number(value):
    with pytest.raises(GateError, match="gates by"):
        check_parity({"queries": 0.0, "gates": value}, None, 1e-3)


def test_parity_refuses_scores_of_real_rows_too():
    with pytest.raises(GateError, match="scores of validation rows by 1"):
        check_parity({"queries": 0.0}, rankings([0, 3]), 1e-3)


def test_rows_without_a_target_or_a_history_are_not_compared():
    rows = HistoryRows.from_lists([[0], [], [1], [2]], target=[1, 2, PAD, 3])
    assert validation_sample(rows).user_id.tolist() == ["0", "3"]


def test_a_long_split_is_thinned_evenly():
    rows = HistoryRows.from_lists([[0]] * 4001, target=[1] * 4001)
    sample = validation_sample(rows).user_id.astype(int)
    assert len(sample) == 2000
    assert (sample[0], sample[-1]) == (0, 4000)
    assert set(np.diff(sample)) <= {2, 3}


def test_overlap_ignores_order():
    assert overlap(np.asarray([[1, 2, 3, 4]]), np.asarray([[4, 9, 1, 8]])) == 0.5


def test_other_shapes_are_infinitely_different():
    assert largest_difference(np.zeros((1, 2)), np.zeros((1, 3))) == float("inf")
