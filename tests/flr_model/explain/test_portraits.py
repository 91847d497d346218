import numpy as np
import pytest

from flr_model.data.catalog import Catalog
from flr_model.data.histories import HistoryRows
from flr_model.explain.portraits import examples, portraits
from flr_model.ranking.catalog import CatalogRecommender
from tests.export.toy import GATES, IDS, MAX_HISTORY, TITLES, VECTORS, ToyReader, toy_evidence

ROWS = HistoryRows.from_lists([[0], [1, 2], [3], [4]], user_id=["u", "v", "w", "x"], target=[2, 4, 5, 0])


@pytest.fixture
def recommender():
    return CatalogRecommender(ToyReader(), Catalog(IDS, TITLES), VECTORS, toy_evidence(), max_history=MAX_HISTORY)


def test_portraits_tell_how_much_a_factor_speaks_and_what_it_alone_recommends(recommender):
    first, second = portraits(recommender, ROWS)
    assert [first.gate, second.gate] == pytest.approx(GATES.tolist())
    assert [first.loudest, second.loudest] == [1, 0]
    assert first.looks_at == second.looks_at == ()  # both read all histories alike
    # The second gives all items the same: it gives more than the first to what that one does not ask for.
    assert first.recommends
    assert not set(first.recommends) & set(second.recommends)


def test_one_factor_is_described_by_what_it_looks_at_most(recommender):
    class One(ToyReader):
        def read(self, histories, vectors, titles):
            states = super().read(histories, vectors, titles)
            return type(states)(*(np.ascontiguousarray(getattr(states, f)[:, :1]) for f in states.__dataclass_fields__))

    evidence = toy_evidence()
    one = type(evidence)(
        **{**vars(evidence), "value": evidence.value[:, :1], "weight": np.ones(1), "scale": np.ones(1)}
    )
    (only,) = portraits(CatalogRecommender(One(), Catalog(IDS, TITLES), VECTORS, one, max_history=MAX_HISTORY), ROWS)
    assert set(only.looks_at) == set(TITLES[:5].tolist())
    assert only.loudest == 1


def test_examples_show_hits_reasons_and_histories_newest_first(recommender):
    shown = examples(recommender, ROWS, top_k=3)
    assert [example.user_id for example in shown] == ["u", "v", "w", "x"]
    assert shown[1].history == ("even two", "odd one")
    assert shown[0].recommendations[0].title == "even two"
    assert [one.hit for one in shown[0].recommendations] == [True, False, False]
    assert shown[0].recommendations[0].because == "even one"
    assert shown[0].recommendations[0].factor == 1


def test_fewer_recommendations_than_asked_for_are_no_error(recommender):
    (example,) = examples(recommender, HistoryRows.from_lists([[0, 1, 2, 3]], user_id=["u"], target=[4]), top_k=5)
    assert len(example.recommendations) == 2
