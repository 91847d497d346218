"""Four items, two factors, one counted pair: every number is worked out below.

Items p, q have the vector (1, 0), items r, s (0, 1). After the history p, r, p the factors' exponentials are
factor 1, gate 3/4: p 3, q 3, r 1, s 1 x 2 = 2 (p was once bought with s), of 9; factor 2, gate 1/4: p 1, q 1, r 3, s 3,
of 8. So P(q) = 1/4 + 1/32 = .28125, P(s) = 1/6 + 3/32 = .2604167, P(r) = 1/12 + 3/32 = .1770833.
"""

import numpy as np
import pytest

from flr_model.data.catalog import Catalog
from flr_model.data.histories import HistoryRows
from flr_model.errors import ConfigError, DataError
from flr_model.explain.facets import explain
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.ranking.evidence import Evidence
from flr_model.ranking.recommender import UserStates

CATALOG = Catalog(
    np.asarray(list("pqrs"), object), np.asarray(["blue train", "blue notes", "red house", "green day"], object)
)
VECTORS = np.asarray([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
HISTORY = [0, 2, 0]
ATTENTION = np.asarray([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]], np.float32)
WEIGHTS = np.asarray([[1, 0, 0], [0, 0, 0]], np.float32)


class Reader:
    """The same answer for all."""

    def __init__(self, attention=ATTENTION):
        self.attention = attention

    def read(self, histories, vectors, titles):
        length = histories.items.shape[1]
        wide = [(0, 0), (max(length - 3, 0), 0)]
        attention, weights = (np.pad(table, wide)[None, :, -length:] for table in (self.attention, WEIGHTS))
        queries = np.log(np.asarray([[[3, 1], [1, 3]]], np.float32))
        return UserStates(queries, np.asarray([[0.75, 0.25]], np.float32), attention, weights, queries)


def recommender(kind=CatalogRecommender, max_history=4, reader=None):
    one = np.ones(2, np.float32)
    evidence = Evidence(
        np.asarray([0, 1, 1, 1, 1]), np.asarray([3]), np.ones((1, 2), np.float32), one, one, 0.0, np.zeros(1, np.int64)
    )
    return kind(reader or Reader(), CATALOG, VECTORS, evidence, max_history=max_history)


def row(history=HISTORY):
    return HistoryRows.from_lists([history], user_id=["u"])


def shares(parts):
    return [(part.item_id, pytest.approx(part.share)) for part in parts]


def test_a_facet_has_its_gate_what_it_looks_at_and_what_it_recommends_alone():
    found = explain(recommender(), row(), top_k=2)
    assert (found.user_id, found.history_items) == ("u", 3)
    one, two = found.facets
    assert (one.factor, one.gate, two.factor, two.gate) == (1, 0.75, 2, 0.25)
    assert shares(one.looks_at) == [("p", 0.8), ("r", 0.2)]  # p stands twice in the history
    assert shares(two.looks_at) == [("r", 0.8), ("p", 0.2)]
    alone = [[(c.item_id, c.title, pytest.approx(c.probability)) for c in facet.recommends] for facet in (one, two)]
    assert alone[0] == [("q", "blue notes", 3 / 9), ("s", "green day", 2 / 9)]  # what was seen is left out
    assert alone[1] == [("s", "green day", 3 / 8), ("q", "blue notes", 1 / 8)]
    assert (one.name, two.name) == ("blue, train, red", "red, house, blue")


def test_titles_that_a_factor_hardly_looks_at_do_not_name_it():
    one = np.asarray([[0.5, 0.1, 0.4], [0.1, 0.9, 0.0]], np.float32)
    names = [facet.name for facet in explain(recommender(reader=Reader(one)), row(), top_k=1).facets]
    assert names == ["blue, train, notes", "red, house, green"]


def test_a_reason_takes_the_probability_apart():
    first, second = explain(recommender(), row(), top_k=5).reasons
    assert (first.rank, first.item_id, second.rank, second.item_id) == (1, "q", 2, "s")
    assert first.probability == pytest.approx(0.28125)
    assert first.shares == pytest.approx((8 / 9, 1 / 9))
    assert first.counted == 0
    assert shares(first.history) == [("p", 1)]  # r has nothing in common with q
    assert second.probability == pytest.approx(1 / 6 + 3 / 32)
    assert second.shares == pytest.approx((0.64, 0.36))
    # Half of factor 1 was counted, with p; its other half and all of factor 2 come of r, which is like s.
    assert second.counted == pytest.approx(0.32)
    assert shares(second.history) == [("r", 0.68), ("p", 0.32)]


def test_the_numbers_are_those_of_the_ranking():
    rows = row()
    ranking = recommender().recommend(rows, 2)
    reasons = explain(recommender(), rows, top_k=2).reasons
    assert [reason.item_id for reason in reasons] == CATALOG.item_ids[ranking.items[0]].tolist()
    assert [reason.probability for reason in reasons] == np.exp(ranking.scores[0]).tolist()
    assert [list(reason.shares) for reason in reasons] == ranking.shares[0].tolist()
    assert [reason.history[0].item_id for reason in reasons] == CATALOG.item_ids[ranking.because[0]].tolist()


def test_one_item_is_explained_with_its_rank():
    (reason,) = explain(recommender(), row(), top_k=1, item="s").reasons
    assert (reason.rank, reason.item_id, reason.probability) == (2, "s", pytest.approx(1 / 6 + 3 / 32))


def test_an_item_of_the_history_has_no_rank():
    (reason,) = explain(recommender(), row(), top_k=1, item="r").reasons
    assert (reason.rank, reason.probability) == (None, pytest.approx(1 / 12 + 3 / 32))


def test_items_before_those_that_are_read_are_not_recommended():
    found = explain(recommender(max_history=3), row([1, *HISTORY]), top_k=5)
    assert found.history_items == 3
    assert [(reason.rank, reason.item_id) for reason in found.reasons] == [(1, "s")]
    assert [choice.item_id for choice in found.facets[0].recommends] == ["s"]


def test_a_user_who_has_seen_everything_has_facets_and_no_reasons():
    found = explain(recommender(max_history=3), row([1, 3, *HISTORY]), top_k=5)
    assert found.reasons == ()
    assert [facet.recommends for facet in found.facets] == [(), ()]


def test_an_unknown_item_is_named_beside_known_ones():
    with pytest.raises(DataError, match=r"'zz' is none of the 4 .*, for instance p, q, r"):
        explain(recommender(), row(), top_k=1, item="zz")


def test_a_recommender_that_writes_titles_without_guidance_is_refused():
    class Writes(CatalogRecommender):
        def mixture(self, rows, states):
            return None

    with pytest.raises(ConfigError, match="cannot be explained without guidance"):
        explain(recommender(Writes), row(), top_k=1)
