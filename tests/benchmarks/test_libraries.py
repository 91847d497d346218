"""Run where the extra `bench` is installed; skipped elsewhere."""

import numpy as np
import pytest

from flr_model.data.histories import HistoryRows

pytest.importorskip("recbole")

N_ITEMS = 6
TRAIN = HistoryRows.from_lists(
    [[0], [0, 1], [3], [3, 4]] * 20, user_id=[f"u{r // 2}" for r in range(80)], target=[1, 2, 4, 5] * 20
)
ROWS = HistoryRows.from_lists([[0, 1], [3, 4], [1]])


def fit(method, **setting):
    import libraries

    quiet = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "dropout_prob": 0.0, "learning_rate": 0.01}
    return libraries.fit_sequential(
        method, TRAIN, N_ITEMS, quiet, seed=0, patience=10, validate=lambda scorer: float(scorer.scores(ROWS)[0, 2])
    )


@pytest.fixture(scope="module", params=["gru4rec", "sasrec"])
def scorer(request):
    return fit(request.param)


def test_libraries_rank_what_was_had_with_the_history_first(scorer):
    scores = scorer.scores(ROWS)
    assert scores.shape == (3, N_ITEMS)
    assert scores.dtype == np.float32
    unseen = np.where(np.isin(np.arange(N_ITEMS), [0, 1]), -np.inf, scores[0])
    assert unseen.argmax() == 2
    assert np.where(np.isin(np.arange(N_ITEMS), [3, 4]), -np.inf, scores[1]).argmax() == 5


def test_libraries_score_a_row_the_same_alone_and_in_a_batch(scorer):
    alone = np.concatenate([scorer.scores(ROWS.select(slice(r, r + 1))) for r in range(len(ROWS))])
    assert scorer.scores(ROWS) == pytest.approx(alone, abs=1e-4)


def test_sequential_models_keep_the_weights_of_their_best_epoch():
    import libraries

    seen = []

    def worse_and_worse(scorer):
        seen.append(scorer.scores(ROWS))
        return -float(len(seen))

    kept = libraries.fit_sequential("gru4rec", TRAIN, N_ITEMS, {}, seed=0, patience=3, validate=worse_and_worse)
    assert len(seen) == 4
    assert np.array_equal(kept.scores(ROWS), seen[0])
