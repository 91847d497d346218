import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from flr_model.artifacts import Manifest
from flr_model.errors import ArtifactError
from flr_model.evaluation import metrics
from flr_model.evaluation.result import Difference, Evaluation, EvaluationReport, RankedRows
from flr_model.writing import claim

PROTOCOL = {"split": "test", "match": "id", "candidates": 9, "seen": "removed", "rows": 3, "bootstrap": 50, "seed": 0}
ROWS = RankedRows(np.array(["u", "v", "v"], object), np.array(["a", "b", "a"], object), np.array([1, 2, 3]))


def evaluation(*ranks):
    found = np.asarray(ranks, np.int64)
    segments = {"target": {"warm": {"rows": 3, **metrics.means(found), "interval": None}}}
    return Evaluation(metrics.means(found), metrics.intervals(found, 50, 0), segments, 0.5, PROTOCOL, found)


REPORT = EvaluationReport(evaluation(0, 3, metrics.MISS), {"pop": evaluation(2, 2, 2)}, {"rows": 3}, ROWS)


@pytest.fixture
def bundle(tmp_path):
    """A folder that calls itself a bundle, with a saved evaluation."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    return seal(folder)


def seal(folder, **content):
    from flr_model.artifacts import BUNDLE

    for name in BUNDLE.files:
        (folder / name).write_text("")
    Manifest("bundle", content=content).write(folder)
    return folder


def saved(report, folder):
    with claim(folder / "evaluation" / "test", "evaluation") as place:
        report.save(place, folder)
    return folder / "evaluation" / "test"


def test_what_was_saved_is_loaded_again(bundle):
    place = saved(REPORT, bundle)
    for path in (bundle, place):
        loaded = EvaluationReport.load(path, "test")
        assert json.dumps(loaded.as_dict()) == json.dumps(REPORT.as_dict())
        assert loaded.model.ranks.tolist() == REPORT.model.ranks.tolist()
        assert loaded.rows.table().equals(ROWS.table())
        assert loaded.baselines["pop"].intervals == REPORT.baselines["pop"].intervals


def test_ranks_are_written_by_row_and_a_target_that_is_no_candidate_has_none(bundle):
    table = pd.read_parquet(saved(REPORT, bundle) / "ranks.parquet")
    assert list(table) == ["user_id", "history_length", "target", "rank_model", "rank_pop"]
    assert table.rank_model.isna().tolist() == [False, False, True]
    assert table.rank_model[1] == 3


def test_a_missing_damaged_or_older_evaluation_is_refused_with_the_command(bundle):
    with pytest.raises(ArtifactError, match="has no saved evaluation of its test rows") as missing:
        EvaluationReport.load(bundle, "test")
    assert missing.value.hint == f"flr eval {bundle} --split test"
    place = saved(REPORT, bundle)
    (place / "eval.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"eval\.json is damaged"):
        EvaluationReport.load(bundle, "test")
    Manifest("evaluation", content={"sha256": "0"}).write(place)
    with pytest.raises(ArtifactError, match=r"is of what .* was before"):
        EvaluationReport.load(bundle, "test")
    with pytest.raises(ArtifactError, match="test cannot be read"):
        EvaluationReport.load(place, "test")


def test_an_evaluation_of_another_split_is_refused(bundle):
    with pytest.raises(ArtifactError, match="is of the test rows, not of valid"):
        EvaluationReport.load(saved(REPORT, bundle), "valid")


def test_only_equal_rows_and_protocols_are_compared(tmp_path):
    REPORT.check_comparable(PROTOCOL, ROWS, where=tmp_path)
    others = replace(ROWS, target=np.array(["a", "b", "c"], object))
    with pytest.raises(ArtifactError, match="1 of its 3 rows are others, for instance row 2, user v"):
        REPORT.check_comparable(PROTOCOL, others, where=tmp_path)
    with pytest.raises(ArtifactError, match="has seen removed, this one allowed"):
        REPORT.check_comparable({**PROTOCOL, "seen": "allowed"}, ROWS, where=tmp_path)


def test_differences_are_paired_and_relative_to_the_other():
    # The model's gains are 1, 1/log2(5), 0; the other's are 1/2 in every row.
    found = REPORT.differences["pop"]["NDCG@10"]
    assert found.mean == pytest.approx((1 + 1 / np.log2(5)) / 3 - 0.5)
    assert found.relative == pytest.approx((found.low / 0.5, found.high / 0.5))
    assert REPORT.differences["pop"]["HR@10"].mean == pytest.approx(-1 / 3)


def test_without_resamples_or_over_nothing_there_is_no_interval():
    ones, zeros = np.ones(3), np.zeros(3)
    assert Difference.of(ones, zeros, 0, 0) == Difference(1.0, None, None, None)
    assert Difference.of(ones, zeros, 10, 0) == Difference(1.0, 1.0, 1.0, None)
