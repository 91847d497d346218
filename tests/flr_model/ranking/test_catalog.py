import numpy as np
import pytest

from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD, HistoryRows
from flr_model.ranking.candidates import EVERYTHING, UNSEEN, Candidates
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.ranking.evidence import Evidence
from flr_model.ranking.recommender import UserStates

VECTORS = np.asarray([[1, 0], [0, 1], [2, 0], [0, 2]], np.float32)
GATES = np.asarray([0.25, 0.75], np.float32)


class StubReader:
    """The first factor asks for the newest item's vector, the second for nothing; titles are encoded by their length.

    Both look at all items alike, and count them alike.
    """

    def read(self, histories, vectors, titles):
        newest = vectors[histories.items[:, -1]]
        queries = np.stack([newest, np.zeros_like(newest)], axis=1)
        real = np.repeat((histories.items != PAD)[:, None].astype(np.float32), 2, axis=1)
        gates = np.repeat(GATES[None], len(newest), axis=0)
        return UserStates(queries, gates, real / real.sum(2, keepdims=True), real, queries)

    def encode_titles(self, titles):
        return np.asarray([[len(title), 0] for title in titles], np.float32)


# After item 1 came item 3: a logit of log 4 for the second factor. Seen items lose log 2.
EVIDENCE = Evidence(
    indptr=np.asarray([0, 0, 1, 1, 1]),
    neighbour=np.asarray([3]),
    value=np.asarray([[0, 3]], np.float32),
    weight=np.ones(2, np.float32),
    scale=np.ones(2, np.float32),
    seen=-np.log(2),
    lag_bounds=np.zeros(1, np.int64),
)

# The exponentials of both users and factors, worked out by hand.
JOINT = np.asarray(
    [
        [np.exp([1, 0, 2, 0]) * [0.5, 1, 1, 1], np.asarray([0.5, 1, 1, 1])],
        [np.exp([0, 1, 0, 2]) * [0.5, 0.5, 0.5, 1], np.asarray([0.5, 0.5, 0.5, 4])],
    ]
)
JOINT = JOINT / JOINT.sum(2, keepdims=True) * GATES[:, None]


@pytest.fixture
def recommender():
    catalog = Catalog(np.asarray(list("abcd"), object), np.asarray(["A", "B", "C", "D"], object))
    return CatalogRecommender(StubReader(), catalog, VECTORS, EVIDENCE, max_history=2)


ROWS = HistoryRows.from_lists([[0], [0, 2, 1]])


def test_scores_are_the_logarithms_of_the_mixture(recommender):
    np.testing.assert_allclose(np.exp(recommender.scores(ROWS)), JOINT.sum(1), rtol=1e-5)
    np.testing.assert_allclose(np.exp(recommender.scores(ROWS)).sum(1), 1, rtol=1e-5)


def test_network_reads_the_newest_items_only(recommender):
    states = recommender.states(ROWS)
    assert states.attention[:, 0].tolist() == [[0, 1], [0.5, 0.5]]
    assert states.weights[:, 1].tolist() == [[0, 1], [1, 1]]
    assert recommender.n_factors == 2


def test_states_are_as_wide_as_a_history_is_read(recommender):
    narrow = recommender.states(ROWS.select(slice(0, 1)))
    assert narrow.attention.tolist() == narrow.weights.tolist() == [[[0, 1], [0, 1]]]


def test_recommendations_hide_the_whole_history_and_explain_themselves(recommender):
    ranking = recommender.recommend(ROWS, 3)
    assert ranking.items.tolist() == [[2, 1, 3], [3, PAD, PAD]]
    np.testing.assert_allclose(np.exp(ranking.scores[0]), JOINT[0].sum(0)[[2, 1, 3]], rtol=1e-5)
    assert ranking.scores[1, 1:].tolist() == [-np.inf, -np.inf]
    np.testing.assert_allclose(ranking.shares[0], (JOINT[0] / JOINT[0].sum(0)).T[[2, 1, 3]], rtol=1e-5)
    shares = JOINT[1, :, 3] / JOINT[1, :, 3].sum()
    np.testing.assert_allclose(ranking.shares[1], [shares, [0, 0], [0, 0]], rtol=1e-5)
    # Without the count the second factor's weight of item 3 would be a fourth.
    np.testing.assert_allclose(ranking.counted, [[0, 0, 0], [shares[1] * 3 / 4, 0, 0]], atol=1e-6)
    assert ranking.because.tolist() == [[0, PAD, PAD], [1, PAD, PAD]]


def test_what_was_had_before_the_history_is_hidden_too(recommender):
    row = HistoryRows.from_lists([[2, 0]])
    assert recommender.recommend(row.truncated(1), 4).items.tolist() == [[2, 1, 3, PAD]]
    assert recommender.recommend(row.cut(1), 4).items.tolist() == [[1, 3, PAD, PAD]]


def test_seen_items_can_be_kept(recommender):
    order = np.argsort(-JOINT.sum(1), axis=1, kind="stable")
    assert recommender.recommend(ROWS, 4, EVERYTHING).items.tolist() == order.tolist()


def test_only_candidates_are_ranked_with_their_probability_among_all_items(recommender):
    ranking = recommender.recommend(ROWS, 2, Candidates(allowed=[np.asarray([0, 1]), np.arange(4)]))
    assert ranking.items.tolist() == [[1, PAD], [3, PAD]]
    np.testing.assert_allclose(np.exp(ranking.scores[:, 0]), [JOINT[0, :, 1].sum(), JOINT[1, :, 3].sum()], rtol=1e-5)
    empty = recommender.recommend(ROWS, 2, Candidates(allowed=[np.zeros(0, np.int64), np.asarray([0])]))
    assert empty.items.tolist() == empty.because.tolist() == [[PAD, PAD], [PAD, PAD]]


def test_what_is_not_offered_is_no_candidate_and_scores_stay(recommender):
    offered = np.asarray([True, True, False, True])
    candidates = Candidates(offered=offered)
    scores, unseen = recommender.scores(ROWS, candidates), recommender.scores(ROWS, UNSEEN)
    np.testing.assert_array_equal(scores, np.where(offered, unseen, -np.inf))
    ranking = recommender.recommend(ROWS, 4, candidates.select(np.asarray([0, 1])))
    assert 2 not in ranking.items
    row, place = np.nonzero(ranking.items != PAD)
    assert len(row) == np.isfinite(scores).sum()
    np.testing.assert_allclose(ranking.scores[row, place], scores[row, ranking.items[row, place]], rtol=1e-5)


def test_an_index_is_asked_for_as_many_more_as_are_not_offered_unless_they_are_too_many(recommender, monkeypatch):
    index = Index(VECTORS)
    near = CatalogRecommender(StubReader(), recommender.catalog, VECTORS, EVIDENCE, max_history=2, index=index)
    near.recommend(ROWS, 1)
    candidates = Candidates(offered=np.asarray([True, True, False, True]))
    ranking = near.recommend(ROWS, 1, candidates)
    (_, before), (_, asked) = index.asked
    assert asked == before + 1
    assert 2 not in ranking.items
    monkeypatch.setattr("flr_model.ranking.catalog.NEAR", 0)
    exact = near.recommend(ROWS, 1, candidates)
    assert len(index.asked) == 2
    assert exact.items.tolist() == recommender.recommend(ROWS, 1, candidates).items.tolist()


def test_top_k_beyond_the_catalogue_gives_all_items(recommender):
    assert recommender.recommend(ROWS, 100).items.shape == (2, 4)


def test_new_items_are_ranked_from_their_titles(recommender):
    larger = recommender.with_items(["e"], ["three"])
    assert larger.recommend(ROWS, 1).items.tolist() == [[4], [3]]
    assert len(recommender.catalog) == 4
    assert recommender.with_items([], []) is recommender


class Index:
    """Finds what is nearest to a query, and PAD."""

    def __init__(self, vectors):
        self.vectors, self.asked = vectors, []

    def search(self, users, n):
        self.asked.append((users.tolist(), n))
        nearest = (users @ self.vectors.T).argmax(1)
        return np.stack([nearest, np.full(len(users), PAD)], axis=1)


def test_an_index_is_asked_by_every_factor_and_counted_items_are_added(recommender):
    index = Index(VECTORS)
    near = CatalogRecommender(StubReader(), recommender.catalog, VECTORS, EVIDENCE, max_history=2, index=index)
    ranking = near.recommend(HistoryRows.from_lists([[0], [2, 0, 1]]), 3)
    assert [users for users, _ in index.asked] == [[[1, 0], [0, 0], [0, 1], [0, 0]]]
    # Near the first user's queries are 2 and, of equals, 0, which is seen; the second user's is 3, which also counts.
    assert ranking.items.tolist() == [[2, PAD, PAD], [3, PAD, PAD]]
    np.testing.assert_allclose(np.exp(ranking.scores[:, 0]), [JOINT[0, :, 2].sum(), JOINT[1, :, 3].sum()], rtol=1e-5)


def test_hidden_items_are_those_of_each_rows_own_history():
    scores = np.zeros((2, 4), np.float32)
    UNSEEN.mask(scores, HistoryRows.from_lists([[3], []]))
    assert np.isinf(scores).tolist() == [[False, False, False, True], [False] * 4]


def test_masks_keep_only_what_a_row_may_be_given():
    scores = np.zeros((3, 4), np.float32)
    rows = HistoryRows.from_lists([[3], [0], []])
    Candidates(allowed=[np.asarray([0, 3]), None, np.asarray([1])]).mask(scores, rows)
    assert np.isfinite(scores).astype(int).tolist() == [[1, 0, 0, 0], [0, 1, 1, 1], [0, 1, 0, 0]]
