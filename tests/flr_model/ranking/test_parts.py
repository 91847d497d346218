import numpy as np
import pytest

from flr_model.data.histories import PAD, HistoryRows
from flr_model.ranking.evidence import Evidence
from flr_model.ranking.mixture import Mixture
from flr_model.ranking.parts import Parts
from flr_model.ranking.recommender import UserStates
from tests.builders import no_evidence

# Items 0 and 1 are near 4, item 2 is far from all; 0 and 1 were bought with 3, 1 for the first factor alone.
VECTORS = np.asarray([[1, 0], [3, 0], [0, -1], [0, 1], [1, 0]], np.float32)
EVIDENCE = Evidence(
    indptr=np.asarray([0, 1, 2, 2, 2, 2]),
    neighbour=np.asarray([3, 3]),
    value=np.asarray([[1, 1], [2, 0]], np.float32),
    weight=np.asarray([1, 1], np.float32),
    scale=np.ones(2, np.float32),
    seen=0.0,
    lag_bounds=np.zeros(1, np.int64),
)
ROWS = HistoryRows.from_lists([[0, 1, 2], [2]])
WEIGHTS = np.asarray([[[0, 2, 1, 1], [0, 1, 1, 1]], [[0, 0, 0, 1], [0, 0, 0, 1]]], np.float32)
ATTENTION = WEIGHTS / WEIGHTS.sum(2, keepdims=True)


def parts_of(items, evidence=EVIDENCE, weights=WEIGHTS):
    gates = np.full((2, 2), 0.5, np.float32)
    states = UserStates(np.zeros((2, 2, 2), np.float32), gates, ATTENTION, weights, np.zeros((2, 2, 2), np.float32))
    nothing = np.zeros(0, np.int64)
    counts = evidence.counts(ROWS, weights)
    mixture = Mixture(states.queries, gates, VECTORS, counts, (nothing, nothing), 0.0)
    return Parts.of(evidence, mixture, states, ROWS, np.asarray(items))


def test_what_counts_gave_is_worked_out_by_hand():
    parts = parts_of([[3, 4], [3, PAD]])
    # The first factor counts 2 x 1 of item 0 and 1 x 2 of item 1: five times the weight. The second 1: twice.
    np.testing.assert_allclose(parts.by_counts[0], [[4 / 5, 1 / 2], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(parts.by_counts[1], 0, atol=0)
    np.testing.assert_allclose(
        parts.counted(np.asarray([[[0.75, 0.25], [1, 0]], [[1, 0], [0, 0]]], np.float32)),
        [[0.75 * 4 / 5 + 0.25 / 2, 0], [0, 0]],
        rtol=1e-6,
    )


def test_the_history_shares_what_counts_and_titles_gave():
    of_history = parts_of([[3, 4], [3, PAD]]).of_history
    # Item 3 is alike to no item of the history, so its part of the titles has no carrier.
    np.testing.assert_allclose(of_history[0, 0], [[0, 0.4, 0.4, 0], [0, 0.5, 0, 0]], rtol=1e-6)
    # Item 4 was never counted: attention 2 : 1 and 1 : 1, similarity 1 : 3.
    np.testing.assert_allclose(of_history[0, 1], [[0, 2 / 5, 3 / 5, 0], [0, 1 / 4, 3 / 4, 0]], rtol=1e-6)
    np.testing.assert_allclose(of_history[1], 0, atol=0)


def test_because_names_the_item_that_carries_most_of_all_factors():
    parts = parts_of([[3, 4], [3, PAD]])
    first, second = np.asarray([1, 0], np.float32), np.asarray([0, 1], np.float32)
    for shares, carriers in ((first, [1, 1]), (second, [0, 1])):  # of equals, 0 and 1 of the first factor, the newest
        found = parts.because(parts.carried(np.broadcast_to(shares, (2, 2, 2))))
        assert found.tolist() == [carriers, [PAD, PAD]]


def test_a_count_that_speaks_against_an_item_is_no_part_of_it():
    against = Evidence(**{**vars(EVIDENCE), "weight": np.asarray([-1, 1], np.float32)})
    np.testing.assert_allclose(parts_of([[3, 4], [3, 4]], against).by_counts[0, 0], [0, 1 / 2], rtol=1e-6)


@pytest.mark.parametrize("planted", range(5))
def test_because_finds_the_item_that_was_planted(planted):
    rng = np.random.default_rng(planted)
    vectors = rng.normal(size=(20, 8)).astype(np.float32)
    rows = HistoryRows.from_lists([rng.permutation(19)[:6].tolist()])
    vectors[19] = 3 * vectors[rows.items[planted]]
    attention = np.full((1, 1, 6), 1 / 6, np.float32)
    states = UserStates(
        attention @ vectors[rows.items], *(np.ones((1, 1), np.float32), attention, 6 * attention), attention
    )
    nothing = np.zeros(0, np.int64)
    empty = no_evidence(20)
    mixture = Mixture(
        states.queries, states.gates, vectors, empty.counts(rows, states.weights), (nothing, nothing), 0.0
    )
    parts = Parts.of(empty, mixture, states, rows, np.asarray([[19]]))
    assert parts.because(parts.carried(np.ones((1, 1, 1), np.float32))).tolist() == [[rows.items[planted]]]
    np.testing.assert_allclose(parts.of_history.sum(3), 1, rtol=1e-5)
