import sys

import numpy as np
import pytest

from flr_export.scoring.index import FaissIndex
from flr_model.data.histories import HistoryRows
from flr_model.errors import MissingExtraError
from tests.export.toy import toy_joint, toy_recommender


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError) as caught:
        FaissIndex.build(np.eye(3, dtype=np.float32))
    assert '[ann]"' in caught.value.hint


class Nearest:
    """An index that knows one item near everybody: e."""

    def search(self, users, n):
        return np.full((len(users), 1), 4)

    def extended(self, vectors):
        return self


def test_items_found_near_and_items_with_counts_are_ranked_exactly():
    ranking = toy_recommender(index=Nearest()).recommend(HistoryRows.from_lists([[0], [1]]), 3)
    assert ranking.items.tolist() == [
        [4, 5, -1],
        [4, -1, -1],
    ]  # f was counted after a; c, which nobody found, is missed
    np.testing.assert_allclose(np.exp(ranking.scores[0, :2]), toy_joint([0]).sum(0)[[4, 5]], rtol=1e-5)
    assert ranking.counted[0, 0] == 0 < ranking.counted[0, 1]


@pytest.fixture
def vectors():
    pytest.importorskip("faiss")
    return np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float32)


def test_most_of_the_nearest_items_are_found(vectors):
    users = np.random.default_rng(1).normal(size=(20, 16)).astype(np.float32)
    found = FaissIndex.build(vectors).search(users, 100)
    assert found.shape == (20, 100)
    best = np.argsort(-(users @ vectors.T), axis=1)[:, :10]
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(best.tolist(), found.tolist(), strict=True)]) > 0.9


def test_new_items_are_found_and_the_first_index_stays(vectors):
    index = FaissIndex.build(vectors)
    user = 10 * vectors[:1]
    larger = index.extended(user)
    assert larger.search(user, 1)[0, 0] == 3000
    assert index.search(user, 1)[0, 0] != 3000


def test_an_index_of_the_toy_catalogue_gives_the_exact_ranking(vectors):
    exact = toy_recommender()
    approximate = toy_recommender(index=FaissIndex.build(exact.vectors))
    rows = HistoryRows.from_lists([[0], [1, 3]])
    np.testing.assert_array_equal(approximate.recommend(rows, 3).items, exact.recommend(rows, 3).items)
