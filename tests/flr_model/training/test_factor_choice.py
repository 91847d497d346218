import numpy as np
import pytest

from flr_model.config import ModelConfig, TrainConfig
from flr_model.training import factor_choice
from flr_model.training.factor_choice import choose, choose_n_factors


def gains(mean: float, rows: int = 400) -> np.ndarray:
    """NDCG of rows, a share of them hits at the first place."""
    out = np.zeros(rows)
    out[: round(mean * rows)] = 1
    return out


def test_the_smallest_k_is_chosen_when_more_factors_gain_nothing_beyond_chance():
    choice = choose({1: gains(0.5), 2: gains(0.49), 4: gains(0.5025)}, seed=0)
    assert choice.n_factors == 1
    assert choice.trials == {1: 0.5, 2: 0.49, 4: 0.5025}
    assert "K = 4 ranks best, but only 0.0025" in choice.why


def test_more_factors_are_chosen_when_they_rank_better():
    choice = choose({1: gains(0.4), 2: gains(0.6), 4: gains(0.59)}, seed=0)
    assert choice.n_factors == 2
    assert "better than every smaller K" in choice.why


@pytest.mark.parametrize("better", [1, 3])
def test_trials_are_trained_with_each_k_and_the_best_one_is_kept(tiny_dataset, tiny_backbone, monkeypatch, better):
    monkeypatch.setattr(factor_choice, "TRIED", (1, 3))
    seen = []
    original = factor_choice.rank_rows

    def ranks(recommender, rows, *rest):
        k = recommender.states(rows.select(slice(0, 1))).gates.shape[1]
        seen.append(k)
        real, coverage = original(recommender, rows, *rest)
        return np.where(k == better, 0, 99) + 0 * real, coverage

    monkeypatch.setattr(factor_choice, "rank_rows", ranks)
    model = ModelConfig(backbone=str(tiny_backbone), item_readers="backbone", n_factors=0, embedding_size=16)
    choice = choose_n_factors(tiny_dataset, model, TrainConfig(batch_size=64))
    assert seen == [1, 3]
    assert choice.n_factors == better
