from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from flr_model.artifacts import Manifest
from flr_model.config import EvalConfig
from flr_model.data.catalog import Catalog
from flr_model.data.dataset import SPLITS, Dataset, write_rows
from flr_model.data.histories import HistoryRows
from flr_model.errors import ArtifactError, DataError
from flr_model.evaluation import metrics
from flr_model.evaluation.evaluate import evaluate, evaluate_with_baselines
from flr_model.evaluation.tuned import FITS, GRIDS
from flr_model.evaluation.validation import validator
from flr_model.ranking.candidates import EVERYTHING
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.ranking.recommender import UserStates
from tests.builders import catalog_of, no_evidence

TRAIN = HistoryRows.from_lists([[0], [1]], target=[1, 2])
CONFIG = EvalConfig(bootstrap=20)


class FixedScores:
    """Scores every row alike."""

    def __init__(self, *scores):
        self.line = np.array(scores, np.float32)

    def scores(self, rows, candidates=EVERYTHING):
        return candidates.mask(np.tile(self.line, (len(rows), 1)), rows)


class SilentReader:
    """One factor whose query asks for the last item of the history; K=1, L=2."""

    def read(self, histories, vectors, titles):
        n, length = histories.items.shape
        query = vectors[histories.items[:, -1]][:, None]
        attention = np.full((n, 1, length), 1 / length, np.float32)
        return UserStates(query, np.ones((n, 1), np.float32), attention, attention, query)


def catalog(*titles):
    return Catalog(np.array([f"i{n}" for n in range(len(titles))], object), np.array(titles, object))


def run(scorer, rows, items, config=CONFIG):
    return evaluate(scorer, rows, train=TRAIN, catalog=items, config=config)


@pytest.fixture
def dataset(tmp_path):
    items = catalog("a", "b", "c", "d")
    items.write(tmp_path / "items.parquet")
    write_rows(tmp_path, dict.fromkeys(SPLITS, HistoryRows.from_lists([[0], [1]], target=[1, 3])))
    Manifest("dataset").write(tmp_path)
    return Dataset.open(tmp_path)


def recommender(items):
    vectors = np.eye(4, dtype=np.float32)[[1, 1, 2, 3]]
    return CatalogRecommender(SilentReader(), items, vectors, no_evidence(4), max_history=2)


def test_seen_items_are_no_candidates():
    rows = HistoryRows.from_lists([[0], [1]], target=[2, 2])
    assert run(FixedScores(4, 3, 2, 1), rows, catalog(*"abcd")).ranks.tolist() == [1, 1]


def test_allow_seen_keeps_them():
    rows = HistoryRows.from_lists([[0], [1]], target=[2, 2])
    found = run(FixedScores(4, 3, 2, 1), rows, catalog(*"abcd"), EvalConfig(bootstrap=0, allow_seen=True))
    assert found.ranks.tolist() == [2, 2]
    assert found.intervals == {}
    assert found.protocol["seen"] == "allowed"


def test_a_target_in_the_history_is_a_miss_and_is_counted():
    found = run(FixedScores(4, 3, 2, 1), HistoryRows.from_lists([[0]], target=[0]), catalog(*"abcd"))
    assert found.ranks.tolist() == [metrics.MISS]
    assert found.protocol["targets_in_history"] == 1


def test_match_title_takes_the_best_item_of_the_title_and_counts_titles():
    # Items 0 and 1 are one title, which is the only one above the target's; item 4 has the target's title and beats it.
    items = catalog("x", "x", "y", "z", "y")
    rows = HistoryRows.from_lists([[3]], target=[2])
    scorer = FixedScores(9, 8, 1, 5, 7)
    assert run(scorer, rows, items).ranks.tolist() == [3]
    found = run(scorer, rows, items, EvalConfig(bootstrap=0, match="title"))
    assert found.ranks.tolist() == [1]
    assert found.protocol["candidates"] == 3


def test_coverage_is_the_share_of_items_in_some_top_ten():
    items = catalog(*[str(n) for n in range(20)])
    scorer = FixedScores(*range(20))
    # Everybody's best ten are 10..19, except that the first row has seen 19 and gets item 9 instead.
    rows = HistoryRows.from_lists([[19], [0]], target=[1, 1])
    assert run(scorer, rows, items).coverage == 11 / 20


def test_result_does_not_depend_on_the_batch_size():
    rows = HistoryRows.from_lists([[n % 4] for n in range(7)], target=[(n + 1) % 4 for n in range(7)])
    scorer, items = FixedScores(4, 3, 2, 1), catalog(*"abcd")
    whole, small = (run(scorer, rows, items, EvalConfig(bootstrap=10, batch_size=size)) for size in (256, 2))
    assert whole.ranks.tolist() == small.ranks.tolist()
    assert (whole.metrics, whole.intervals, whole.segments) == (small.metrics, small.intervals, small.segments)


def test_segments_hold_rows_means_and_an_interval():
    rows = HistoryRows.from_lists([[0], [0]], target=[2, 3])
    warm = run(FixedScores(0, 1, 3, 2), rows, catalog(*"abcd")).segments["target"]["warm"]
    assert (warm["rows"], warm["HR@1"], warm["interval"]) == (1, 1.0, (1.0, 1.0))


def test_rows_without_a_target_are_left_out():
    rows = HistoryRows.from_lists([[0], [0]], target=[2, -1])
    assert len(run(FixedScores(0, 1, 3, 2), rows, catalog(*"abcd")).ranks) == 1


def test_a_split_without_targets_is_an_error():
    with pytest.raises(DataError, match="the test split has no row with a target"):
        run(FixedScores(0, 1, 3, 2), HistoryRows.from_lists([]), catalog(*"abcd"))


def test_report_puts_both_baselines_beside_the_model(dataset):
    # The model's best unseen item for history [0] is 1, a hit; for [1] it is 0, and 2 and 3 tie behind it.
    body = evaluate_with_baselines(recommender(dataset.catalog), dataset, CONFIG).as_dict()
    assert body["metrics"]["HR@1"] == 0.5
    assert list(body["baselines"]) == ["pop", "cooc"]
    assert all(list(metrics) == list(body["metrics"]) for metrics in body["baselines"].values())
    assert set(body["differences"]["pop"]) == {"HR@10", "NDCG@10"}
    assert set(body["differences"]["pop"]["NDCG@10"]) == {"mean", "low", "high", "relative"}
    assert body["diagnostics"]["factor_usage"] == [1.0]
    assert body["protocol"] | {"rows": 2, "candidates": 4, "split": "test", "match": "id"} == body["protocol"]


def test_further_baselines_are_fitted_on_the_training_rows_and_tuned_on_the_validation_rows(dataset):
    pytest.importorskip("implicit")
    config = replace(CONFIG, baselines="ease,pop,itemknn,als")
    report = evaluate_with_baselines(recommender(dataset.catalog), dataset, config)
    assert list(report.baselines) == ["ease", "pop", "itemknn", "als"]
    assert report.about["ease"]["settings_tried"] == len(GRIDS["ease"])
    assert set(report.about) == {"ease", "itemknn", "als"}
    valid = dataset.rows("valid")
    alone = {
        weight: evaluate(
            FITS["ease"](dataset.rows("train"), len(dataset.catalog), reg_weight=weight),
            valid, train=dataset.rows("train"), catalog=dataset.catalog, config=config,
        ).metrics["NDCG@10"]
        for weight in (setting["reg_weight"] for setting in GRIDS["ease"])
    }  # fmt: skip
    assert report.about["ease"]["valid_ndcg@10"] == round(max(alone.values()), 4)
    assert alone[report.about["ease"]["reg_weight"]] == max(alone.values())


def test_a_model_of_other_items_is_refused(dataset):
    with pytest.raises(ArtifactError, match="3 of the dataset's are unknown"):
        evaluate_with_baselines(recommender(catalog("a")), dataset, CONFIG)


def test_validation_while_training_counts_its_rows():
    class Counted:
        def __init__(self):
            self.told = []

        @contextmanager
        def task(self, total, unit):
            self.told.append([unit, total, 0])
            yield self

        def advance(self, amount, **_):
            self.told[-1][2] += amount

    rows, counted = HistoryRows.from_lists([[0], [1], [2]], target=[1, 2, 3]), Counted()
    fixed = FixedScores(4, 3, 2, 1)
    fixed.catalog = catalog_of(["a", "b", "c", "d"])
    validator(lambda: fixed, rows, progress=counted)()
    assert counted.told == [["validation rows", 3, 3]]
