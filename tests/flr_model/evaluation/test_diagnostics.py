import numpy as np
import pytest

from flr_model.data.histories import HistoryRows
from flr_model.evaluation.diagnostics import factor_diagnostics, gate_entropy, pairwise_cosine
from flr_model.ranking.recommender import UserStates


def test_gate_entropy_is_one_for_equal_gates_and_zero_for_one_factor():
    assert gate_entropy(np.array([[0.25] * 4, [0, 0, 1, 0]])).tolist() == pytest.approx([1, 0])


def test_gate_entropy_of_a_single_factor_is_zero():
    assert gate_entropy(np.ones((2, 1))).tolist() == [0, 0]


def test_pairwise_cosine_averages_over_the_pairs():
    # Vectors x, x and y: cosines 1, 0, 0.
    assert pairwise_cosine(np.array([[[2, 0], [1, 0], [0, 3]]])).tolist() == pytest.approx([1 / 3])


def test_pairwise_cosine_of_zero_vectors_is_zero():
    assert pairwise_cosine(np.zeros((1, 2, 3))).tolist() == [0]


class TwoFactors:
    """Gates .75 and .25; opposite factors that look at the same item."""

    def states(self, rows):
        n = len(rows)
        factors = np.tile(np.array([[1.0, 0], [-1, 0]], np.float32), (n, 1, 1))
        attention = np.tile(np.array([[0, 1.0], [0, 1]], np.float32), (n, 1, 1))
        return UserStates(factors, np.tile(np.array([0.75, 0.25], np.float32), (n, 1)), attention, factors)


def test_factor_diagnostics_reads_the_states_in_batches():
    found = factor_diagnostics(TwoFactors(), HistoryRows.from_lists([[0]] * 5), batch_size=2)
    entropy = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    assert found == {
        "rows": 5,
        "gate_entropy": pytest.approx(entropy),
        "factor_usage": [0.75, 0.25],
        "factor_cosine": pytest.approx(-1),
        "attention_cosine": pytest.approx(1),
    }


def test_factor_diagnostics_of_one_factor_have_no_cosines():
    class OneFactor:
        def states(self, rows):
            one = np.ones((len(rows), 1, 1), np.float32)
            return UserStates(one, one[..., 0], one, one)

    found = factor_diagnostics(OneFactor(), HistoryRows.from_lists([[0]]))
    assert found["factor_cosine"] is None
    assert found["attention_cosine"] is None
