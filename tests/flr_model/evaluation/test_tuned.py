import sys

import numpy as np
import pytest

from flr_model.config import EvalConfig
from flr_model.data.histories import HistoryRows
from flr_model.errors import ConfigError, MissingExtraError
from flr_model.evaluation.tuned import FITS, GRIDS, check_installed, distinct_pairs, tune
from flr_model.ranking.candidates import UNSEEN

N_ITEMS = 7
TRAIN = HistoryRows.from_lists(
    [[0], [0, 1], [3], [3, 4]] * 20, user_id=[f"u{r // 2}" for r in range(80)], target=[1, 2, 4, 5] * 20
)
ROWS = HistoryRows.from_lists([[0, 1], [3, 4], [1], []])
SETTINGS = {
    "itemknn": {"neighbours": 3},
    "ease": {"reg_weight": 1.0},
    "als": {"factors": 4, "alpha": 1.0, "regularization": 0.01},
}


def fit(name):
    pytest.importorskip("scipy" if name == "ease" else "implicit")
    return FITS[name](TRAIN, N_ITEMS, **SETTINGS[name])


@pytest.mark.parametrize("name", FITS)
def test_what_was_had_with_the_history_comes_first(name):
    scores = fit(name).scores(ROWS, UNSEEN)
    assert scores.shape == (4, N_ITEMS)
    assert scores.dtype == np.float32
    assert scores[:2].argmax(axis=1).tolist() == [2, 5]
    assert not np.isnan(scores).any()  # item 6 was never had, the last row has no history


@pytest.mark.parametrize("name", FITS)
def test_a_row_scores_the_same_alone_and_in_a_batch(name):
    scorer = fit(name)
    alone = np.concatenate([scorer.scores(ROWS.select(slice(r, r + 1))) for r in range(len(ROWS))])
    assert scorer.scores(ROWS) == pytest.approx(alone, abs=1e-4)


def test_ease_is_the_ridge_regression_of_each_item_on_the_others():
    pytest.importorskip("scipy")
    had = np.random.default_rng(0).random((30, 5)) < 0.4
    had[:, 0] |= ~had.any(axis=1)
    lists = [np.flatnonzero(row).tolist() for row in had]
    train = HistoryRows.from_lists(lists, user_id=[f"u{n:02}" for n in range(30)])
    weights = FITS["ease"](train, 5, reg_weight=3.0).weights
    x = had.astype(float)
    for item in range(5):
        others = [other for other in range(5) if other != item]
        left, right = x[:, others], x[:, item]
        expected = np.linalg.solve(left.T @ left + 3.0 * np.eye(4), left.T @ right)
        assert weights[others, item] == pytest.approx(expected, abs=1e-5)
    assert np.diag(weights).tolist() == [0] * 5


def test_item_neighbours_weigh_by_the_cosine():
    pytest.importorskip("implicit")
    train = HistoryRows.from_lists([[0], [0], [1]], user_id=["a", "b", "c"], target=[1, 2, 2])
    weights = FITS["itemknn"](train, 3, neighbours=2).weights.toarray()
    assert weights == pytest.approx(0.5 * (1 - np.eye(3)))


def test_tuning_keeps_the_setting_that_validates_best(monkeypatch):
    monkeypatch.setitem(FITS, "ease", lambda train, n_items, *, reg_weight: reg_weight)
    valid = {1.0: 0.2, 2.0: 0.41236, 3.0: 0.41236}
    found = tune("ease", TRAIN, N_ITEMS, valid.get, settings=[{"reg_weight": weight} for weight in valid])
    assert found.scorer == 2.0
    assert found.about == {"reg_weight": 2.0, "settings_tried": 3, "valid_ndcg@10": 0.4124}
    unseen = tune("ease", TRAIN, N_ITEMS, None)
    assert unseen.about == {**GRIDS["ease"][0], "settings_tried": 1}


def test_distinct_pairs_joins_the_rows_of_a_user_and_counts_every_item_once():
    rows = HistoryRows.from_lists([[0], [2], [0, 1]], user_id=["b", "a", "b"], target=[1, 0, 3])
    users, items = distinct_pairs(rows)
    assert list(zip(users.tolist(), items.tolist(), strict=True)) == [(0, 0), (0, 2), (1, 0), (1, 1), (1, 3)]


def test_distinct_pairs_leaves_out_unknown_targets():
    users, items = distinct_pairs(HistoryRows.from_lists([[5]]))
    assert np.stack([users, items]).tolist() == [[0], [5]]


def test_a_missing_library_names_the_extra_and_only_who_needs_it_asks(monkeypatch):
    monkeypatch.setitem(sys.modules, "implicit", None)
    check_installed(["pop", "cooc"])
    with pytest.raises(MissingExtraError) as caught:
        check_installed(["pop", "als"])
    assert '[baselines]"' in caught.value.hint


def test_unknown_baselines_are_refused():
    with pytest.raises(ConfigError, match="--baselines: 'eas', '' is none of pop, cooc, itemknn, ease, als"):
        EvalConfig(baselines="pop,eas,")
    assert EvalConfig(baselines="ease, pop").beside == ("ease", "pop")
