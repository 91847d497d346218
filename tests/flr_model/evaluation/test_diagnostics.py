import numpy as np
import pytest

from flr_model.data.histories import PAD, HistoryRows
from flr_model.evaluation.diagnostics import (
    explained_by_place,
    factor_diagnostics,
    gate_entropy,
    pairwise_cosine,
    top_overlap,
    verdict,
)
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


def padded(histories, length):
    """(R, 1, L) attention of given histories."""
    out = np.zeros((len(histories), 1, length), np.float32)
    for row, attention in enumerate(histories):
        out[row, 0, length - len(attention) :] = attention
    return out, np.asarray([len(attention) for attention in histories])


def test_attention_that_follows_from_the_place_is_explained_by_it():
    assert explained_by_place(*padded([[0.2, 0.8], [0.2, 0.8], [0.1, 0.2, 0.7]], 4)) == pytest.approx(1)


def test_attention_of_equal_means_at_every_place_is_not():
    assert explained_by_place(*padded([[0, 1], [1, 0]], 3)) == pytest.approx(0)


def test_the_share_of_place_is_worked_out_by_hand():
    # Around .5: -.5, .5, -.3, .3; the place explains -.4 and .4, what is left is .1 each.
    assert explained_by_place(*padded([[0, 1], [0.2, 0.8]], 2)) == pytest.approx(1 - 0.01 / 0.17)


def test_a_history_of_one_item_says_nothing_of_attention():
    assert explained_by_place(*padded([[0, 1], [1, 0], [1], [1]], 2)) == pytest.approx(0)
    assert explained_by_place(*padded([[1], [1]], 2)) == 1


def test_overlap_is_averaged_over_pairs_and_padding_is_no_item():
    best = [np.asarray([[1, 2], [3, PAD]]), np.asarray([[2, 9], [4, PAD]]), np.asarray([[2, 1], [3, PAD]])]
    np.testing.assert_allclose(top_overlap(best), [(0.5 + 1 + 0.5) / 3, (0 + 0.5 + 0) / 3])


class TwoFactors:
    """Gates .75 and .25; opposite factors that look at the same item, and rank five items in opposite order."""

    def states(self, rows):
        n = len(rows)
        factors = np.tile(np.array([[1.0, 0], [-1, 0]], np.float32), (n, 1, 1))
        attention = np.tile(np.array([[0, 1.0], [0, 1]], np.float32), (n, 1, 1))
        gates = np.tile(np.array([0.75, 0.25], np.float32), (n, 1))
        return UserStates(factors, gates, attention, attention, factors)

    def factor_scores(self, rows):
        chances = np.asarray([[0.3, 0.2, 0.15, 0.06, 0.04], [0.02, 0.03, 0.05, 0.06, 0.09]])
        return np.log(np.tile(chances, (len(rows), 1, 1))).astype(np.float32)


def test_factor_diagnostics_reads_the_states_in_batches():
    found = factor_diagnostics(TwoFactors(), HistoryRows.from_lists([[0]] * 5, target=[1, 1, 1, 1, 4]), batch_size=2)
    # Item 0 is seen: the target 1 is the first factor's first and the second's last of four, 4 the other way round.
    last = 1 / np.log2(5)
    assert found == {
        "rows": 5,
        "gate_entropy": pytest.approx(-(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))),
        "factor_usage": [0.75, 0.25],
        "gate_spread": 0,
        "attention_by_place": 1,
        "factor_cosine": pytest.approx(-1),
        "attention_cosine": pytest.approx(1),
        "responsibilities": pytest.approx([(4 * 20 / 23 + 4 / 13) / 5, (4 * 3 / 23 + 9 / 13) / 5]),
        "factor_ndcg": pytest.approx([(4 + last) / 5, (4 * last + 1) / 5]),
        "best_factor_ndcg": pytest.approx(1),
        "top_overlap": pytest.approx(4 / 5),  # of a top 10 of five items, of which one is seen
        "verdict": found["verdict"],
    }
    assert "the same for everybody" in found["verdict"]


def test_factor_diagnostics_of_one_factor_have_no_pairs():
    class OneFactor:
        def states(self, rows):
            one = np.ones((len(rows), 1, 1), np.float32)
            return UserStates(one, one[..., 0], one, one, one)

        def factor_scores(self, rows):
            return np.zeros((len(rows), 1, 3), np.float32)

    found = factor_diagnostics(OneFactor(), HistoryRows.from_lists([[0]], target=[1]))
    assert found["factor_cosine"] is found["attention_cosine"] is found["top_overlap"] is None
    assert found["responsibilities"] == [1]
    assert found["verdict"].startswith("one factor")


def test_factors_that_rank_nothing_have_no_figures_of_ranking():
    class Writer(TwoFactors):
        def factor_scores(self, rows):
            return None

    found = factor_diagnostics(Writer(), HistoryRows.from_lists([[0]], target=[1]))
    names = ("responsibilities", "factor_ndcg", "best_factor_ndcg", "top_overlap")
    assert [found[name] for name in names] == [None] * 4


@pytest.mark.parametrize(
    ("by_place", "spread", "words"),
    [
        (0.5, 0.1, ["differ between users"]),
        (0.99, 0.1, ["the same for everybody", "99 % of what they look at"]),
        (0.5, 0.002, ["the same for everybody", "gates vary by only 0.002"]),
    ],
)
def test_the_verdict_says_whether_factors_differ_and_why(by_place, spread, words):
    said = verdict({"factor_usage": [0.5, 0.5], "attention_by_place": by_place, "gate_spread": spread})
    assert all(word in said for word in ("2 factors", *words))
