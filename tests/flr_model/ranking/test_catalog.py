import numpy as np
import pytest

from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD, HistoryRows
from flr_model.ranking.candidates import EVERYTHING, UNSEEN, Candidates
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.ranking.evidence import SparseScores
from flr_model.ranking.recommender import UserStates

VECTORS = np.asarray([[1, 0], [0, 1], [2, 0], [0, 2]], np.float32)


class StubReader:
    """Two factors that see one half of the newest item's vector each; titles are encoded by their length."""

    def read(self, histories, vectors, titles):
        newest = vectors[histories[:, -1]]
        queries = np.stack([newest / 2, newest / 2], axis=1)
        ones = np.ones(queries.shape[:2], np.float32)
        attention = np.repeat((histories != PAD)[:, None].astype(np.float32), 2, axis=1)
        return UserStates(queries, ones / 2, attention, queries)

    def encode_titles(self, titles):
        return np.asarray([[len(title), 0] for title in titles], np.float32)


class StubEvidence:
    """Knows that item 3 goes with everything."""

    def __init__(self, n_items=4):
        self.n_items = n_items

    def scores(self, rows):
        out = np.zeros((len(rows), self.n_items), np.float32)
        out[:, 3] = 0.5
        return out

    def sparse(self, rows):
        every = np.arange(len(rows))
        return SparseScores(every, np.full(len(rows), 3), np.full(len(rows), 0.5, np.float32))

    def extended(self, n_new):
        return StubEvidence(self.n_items + n_new)


@pytest.fixture
def recommender():
    catalog = Catalog(np.asarray(list("abcd"), object), np.asarray(["A", "B", "C", "D"], object))
    return CatalogRecommender(StubReader(), catalog, VECTORS, StubEvidence(), max_history=2)


ROWS = HistoryRows.from_lists([[0], [0, 2, 1]])


def test_scores_are_dot_products_plus_evidence(recommender):
    assert recommender.scores(ROWS).tolist() == [[1, 0, 2, 0.5], [0, 1, 0, 2.5]]


def test_network_reads_the_newest_items_only(recommender):
    assert recommender.states(ROWS).attention[:, 0].tolist() == [[0, 1], [1, 1]]


def test_recommendations_hide_the_whole_history_and_explain_themselves(recommender):
    ranking = recommender.recommend(ROWS, 3)
    assert ranking.items.tolist() == [[2, 3, 1], [3, PAD, PAD]]
    assert ranking.scores.tolist() == [[2, 0.5, 0], [2.5, -np.inf, -np.inf]]
    assert ranking.contributions[0].tolist() == [[1, 1, 0], [0, 0, 0.5], [0, 0, 0]]
    assert ranking.contributions[1, 0].tolist() == [1, 1, 0.5]


def test_what_was_had_before_the_history_is_hidden_too(recommender):
    row = HistoryRows.from_lists([[2, 0]])
    assert recommender.recommend(row.newest(1), 4).items.tolist() == [[2, 3, 1, PAD]]
    assert recommender.recommend(row.cut(1), 4).items.tolist() == [[3, 1, PAD, PAD]]


def test_seen_items_can_be_kept(recommender):
    ranking = recommender.recommend(ROWS, 2, EVERYTHING)
    assert ranking.items.tolist() == [[2, 0], [3, 1]]


def test_only_candidates_are_ranked(recommender):
    ranking = recommender.recommend(ROWS, 2, Candidates(allowed=[np.asarray([0, 1]), np.arange(4)]))
    assert ranking.items.tolist() == [[1, PAD], [3, PAD]]
    assert ranking.contributions[1, 0].tolist() == [1, 1, 0.5]
    empty = recommender.recommend(ROWS, 2, Candidates(allowed=[np.zeros(0, np.int64), np.asarray([0])]))
    assert empty.items.tolist() == [[PAD, PAD], [PAD, PAD]]


def test_top_k_beyond_the_catalogue_gives_all_items(recommender):
    assert recommender.recommend(ROWS, 100).items.shape == (2, 4)


def test_new_items_are_ranked_from_their_titles(recommender):
    larger = recommender.with_items(["e"], ["three"])
    assert larger.recommend(ROWS, 1).items.tolist() == [[4], [3]]
    assert len(recommender.catalog) == 4
    assert recommender.with_items([], []) is recommender


def test_hidden_items_are_those_of_each_rows_own_history():
    scores = np.zeros((2, 4), np.float32)
    UNSEEN.mask(scores, HistoryRows.from_lists([[3], []]))
    assert np.isinf(scores).tolist() == [[False, False, False, True], [False] * 4]


def test_masks_keep_only_what_a_row_may_be_given():
    scores = np.zeros((3, 4), np.float32)
    rows = HistoryRows.from_lists([[3], [0], []])
    Candidates(allowed=[np.asarray([0, 3]), None, np.asarray([1])]).mask(scores, rows)
    assert np.isfinite(scores).astype(int).tolist() == [[1, 0, 0, 0], [0, 1, 1, 1], [0, 1, 0, 0]]
