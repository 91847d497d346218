import numpy as np
import pytest

from flr_model.evaluation import metrics


def ranks(*values):
    return np.array(values, np.int64)


def test_target_ranks_counts_items_with_a_higher_score():
    assert metrics.target_ranks(np.array([[0.1, 0.9, 0.5]]), ranks(2)).tolist() == [1]


def test_target_ranks_counts_ties_against_the_target():
    assert metrics.target_ranks(np.array([[0.5, 0.5, 0.5, 0.1]]), ranks(0)).tolist() == [2]


@pytest.mark.parametrize("own", [-np.inf, np.nan])
def test_a_target_that_is_no_candidate_is_a_miss_however_few_candidates_there_are(own):
    missed = metrics.target_ranks(np.array([[own, -np.inf, 0.2]]), ranks(0))
    assert set(metrics.means(missed).values()) == {0}


def test_target_ranks_counts_nan_scores_of_others_against_the_target():
    assert metrics.target_ranks(np.array([[0.9, np.nan, 0.2]]), ranks(0)).tolist() == [1]


def test_target_ranks_of_no_rows_is_empty():
    assert metrics.target_ranks(np.zeros((0, 3)), ranks()).tolist() == []


def test_metrics_are_zero_at_and_beyond_the_cut_off():
    for metric in metrics.METRICS.values():
        assert metric(ranks(5, 6), 5).tolist() == [0, 0]
        assert (metric(ranks(4), 5) > 0).all()


def test_ndcg_is_one_over_the_log_of_the_place():
    assert metrics.ndcg(ranks(0, 2, 6), 10) == pytest.approx([1, 1 / 2, 1 / 3])


def test_mrr_is_one_over_the_place():
    assert metrics.mrr(ranks(0, 3), 10).tolist() == [1, 0.25]


def test_means_names_every_metric_at_every_cut_off():
    names = [f"{name}@{k}" for name in ("HR", "NDCG", "MRR") for k in (1, 5, 10, 20)]
    names = [name for name in names if name not in ("NDCG@1", "MRR@1")]  # which are HR@1
    assert list(metrics.means(ranks(0))) == names


def test_means_divides_by_all_rows_including_misses():
    found = metrics.means(ranks(0, 1, 100, 100), (5,))
    assert found == pytest.approx({"HR@5": 0.5, "NDCG@5": (1 + 1 / np.log2(3)) / 4, "MRR@5": 1.5 / 4})


def test_means_of_no_rows_are_nan():
    assert all(np.isnan(value) for value in metrics.means(ranks()).values())


def test_intervals_surround_the_mean_and_depend_on_the_seed_only():
    drawn = np.random.default_rng(0).integers(0, 30, 500)
    means, first = metrics.means(drawn), metrics.intervals(drawn, 500, seed=1)
    assert all(low < means[name] < high for name, (low, high) in first.items())
    assert metrics.intervals(drawn, 500, seed=1) == first
    assert metrics.intervals(drawn, 500, seed=2) != first


def test_intervals_have_the_width_of_the_normal_approximation():
    hits = np.where(np.arange(10_000) < 2_000, 0, 99)
    low, high = metrics.intervals(hits, 4000, seed=0)["HR@1"]
    error = 1.96 * np.sqrt(0.2 * 0.8 / 10_000)
    assert (low, high) == pytest.approx((0.2 - error, 0.2 + error), abs=error / 10)


def test_intervals_do_not_depend_on_the_size_of_a_block(monkeypatch):
    whole = metrics.intervals(ranks(0, 1, 2, 9), 50, seed=0)
    monkeypatch.setattr(metrics, "_CHUNK", 1)
    assert metrics.intervals(ranks(0, 1, 2, 9), 50, seed=0) == whole


def test_no_resamples_give_no_intervals():
    assert metrics.intervals(ranks(0, 1), 0, seed=0) == {}
    mean, low, high = metrics.paired_difference([1.0, 0.0], [0.0, 0.0], 0, seed=0)
    assert mean == 0.5
    assert np.isnan([low, high]).all()


def test_paired_difference_is_narrower_than_the_spread_of_the_rows():
    base = np.random.default_rng(0).random(400)
    mean, low, high = metrics.paired_difference(base + 0.1, base, 200, seed=0)
    assert (mean, low, high) == pytest.approx((0.1, 0.1, 0.1))


def test_paired_difference_of_noise_includes_zero():
    rng = np.random.default_rng(0)
    _, low, high = metrics.paired_difference(rng.random(500), rng.random(500), 500, seed=0)
    assert low < 0 < high


def test_paired_difference_refuses_rows_that_do_not_pair():
    with pytest.raises(ValueError, match="cannot pair"):
        metrics.paired_difference([1.0], [1.0, 0.0], 10, seed=0)
