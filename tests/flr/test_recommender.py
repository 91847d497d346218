import logging
import time

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

import flr
from flr_export.scoring.sinks import result_columns
from tests.export.toy import IDS, toy_joint, write_toy_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy")


@pytest.fixture(scope="module")
def bundle(folder):
    return flr.load(folder)


def test_one_history_gives_its_best_items(bundle):
    recs = bundle.recommend(["a"], k=3)
    assert recs.columns.tolist() == ["rank", "item_id", "title", "score"]
    assert recs["item_id"].tolist() == ["c", "e", "f"]
    assert recs["title"].tolist() == ["even two", "even three", "odd three"]
    np.testing.assert_allclose(recs["score"], toy_joint([0]).sum(0)[[2, 4, 5]], rtol=1e-5)


def test_because_adds_what_a_recommendation_is_made_of(bundle):
    recs = bundle.recommend(["c", "a"], k=6, because=True)
    assert recs.columns.tolist() == result_columns(2)[1:]
    np.testing.assert_allclose(recs["factor_1"] + recs["factor_2"], 1, rtol=1e-5)
    assert recs.set_index("item_id").loc["f", "because_item_id"] == "a"


def test_a_history_may_be_a_series_or_an_array_and_times_put_it_in_order(bundle):
    expected = bundle.recommend(["b", "b", "a"])
    for history in (pd.Series(["b", "b", "a"]), np.asarray(["b", "b", "a"]), ("b", "b", "a")):
        pd.testing.assert_frame_equal(bundle.recommend(history), expected)
    in_order = bundle.recommend(["a", "b", "c", "d"])  # of which the newest three are read
    days = pd.to_datetime(["2024-01-04", "2024-01-01", "2024-01-03", "2024-01-02"])
    pd.testing.assert_frame_equal(bundle.recommend(["d", "a", "c", "b"], times=days), in_order)


def test_a_frame_is_read_as_flr_score_reads_the_file(bundle, folder, tmp_path):
    """Long and wide form, with columns of other names, numbers, and times out of order."""
    times = pd.to_datetime(["2024-01-02", "2024-01-02", "2024-01-02", "2024-01-01"])
    frame = pd.DataFrame({"customer": [7, 7, 8, 7], "sku": ["b", "a", "c", "d"], "ordered_at": times})
    frame.to_csv(tmp_path / "h.csv", index=False)
    flr.score(folder, tmp_path / "h.csv", tmp_path / "recs.parquet", config=flr.ScoreConfig(top_k=2))
    filed = pd.read_parquet(tmp_path / "recs.parquet")
    recs = bundle.recommend(frame, k=2, because=True)
    pd.testing.assert_frame_equal(recs, filed, check_dtype=False)
    wide = pd.DataFrame({"user_id": ["7", "8"], "history": [["d", "b", "a"], np.asarray(["c"])]})
    pd.testing.assert_frame_equal(bundle.recommend(wide, k=2, because=True), recs)


def test_the_names_of_a_frame_s_columns_can_be_given(bundle):
    frame = pd.DataFrame({"x": ["u"], "y": ["a"]})
    with pytest.raises(flr.DataError, match="the frame has no user_id column"):
        bundle.recommend(frame)
    recs = bundle.recommend(frame, files=flr.FilesConfig(user_col="x", item_col="y", time=False))
    assert recs["user_id"].unique().tolist() == ["u"]


def test_unknown_items_are_an_error_unless_they_are_dropped(bundle, caplog):
    with pytest.raises(flr.DataError, match=r"unknown items: 'new', 'x' \(2 of them; 6 items are known\)") as caught:
        bundle.recommend(["a", "new", "x", "new"])
    assert "with_items" in caught.value.hint
    with caplog.at_level(logging.WARNING):
        pd.testing.assert_frame_equal(bundle.recommend(["a", "new"], unknown="drop"), bundle.recommend(["a"]))
    assert "1 interactions are with unknown items, for instance new" in caplog.text
    with pytest.raises(flr.DataError, match="none of its 1 items is known"):
        bundle.recommend(["new"], unknown="drop")
    frame = pd.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "new"], "timestamp": [1, 2]})
    with pytest.raises(flr.DataError, match="unknown items"):
        bundle.recommend(frame)
    caplog.clear()
    assert bundle.recommend(frame, unknown="drop")["user_id"].unique().tolist() == ["u"]
    assert "1 left out, for instance v: none of its 1 items" in caplog.text


@pytest.fixture(scope="module")
def counting(tmp_path_factory):
    """The bundle, which also says how often its items were bought."""
    degree = np.asarray([1, 6, 0, 2, 4, 2])
    return flr.load(write_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy", degree=degree))


def test_users_of_whom_nothing_is_known_get_what_is_popular(counting, bundle, caplog):
    frame = pd.DataFrame({"user_id": ["u", "new", "blank", "v"], "history": [["a"], ["x"], [], ["b", "y"]]})
    with caplog.at_level(logging.INFO):
        recs = counting.recommend(frame, k=2, unknown="drop", fallback="popular")
    assert recs["user_id"].tolist() == ["u", "u", "new", "new", "blank", "blank", "v", "v"]
    assert recs["source"].tolist() == ["model"] * 2 + ["popular"] * 4 + ["model"] * 2
    assert recs["item_id"].tolist()[2:6] == ["b", "e"] * 2
    assert recs["score"].tolist()[2:4] == pytest.approx([6 / 15, 4 / 15])
    assert "the most popular items for 2 users, for instance new: none of its 1 items is known" in caplog.text
    plain = counting.recommend(frame, k=2, unknown="drop")
    assert plain.columns.tolist() == recs.columns.tolist()[:-1]
    pd.testing.assert_frame_equal(plain, recs[recs["source"] == "model"].drop(columns="source").reset_index(drop=True))


def test_one_history_without_a_known_item_gets_what_is_popular(counting, bundle):
    for history in ([], ["x"]):
        recs = counting.recommend(history, k=3, unknown="drop", fallback="popular", exclude=["e"], because=True)
        assert recs["item_id"].tolist() == ["b", "d", "f"]
        assert recs["source"].unique().tolist() == ["popular"]
        assert recs["factor_1"].isna().all()
    assert counting.recommend(["a"], k=3, fallback="popular")["source"].unique().tolist() == ["model"]
    with pytest.raises(flr.DataError, match="2 items but 1 time"):
        counting.recommend(["a", "b"], times=[1], fallback="popular")
    with pytest.raises(flr.ArtifactError, match="how often its items were bought"):
        bundle.recommend(["a"], fallback="popular")


def test_new_items_count_by_their_titles_and_are_recommended(bundle):
    wider = bundle.with_items({"new": "even four", "a": "another title", 9: "odd one"})
    assert wider.items()["item_id"].tolist() == [*IDS, "new", "9"]
    assert wider.items()["title"][0] == "even one"
    assert "new" in wider.recommend(["a"], k=8)["item_id"].tolist()
    assert wider.recommend(["new"], k=1)["item_id"].tolist() == ["a"]
    assert len(bundle.items()) == 6
    with pytest.raises(flr.DataError, match="without id or title: 'y'"):
        bundle.with_items({"y": " "})


def test_only_exclude_and_allow_seen_choose_among_the_items(bundle):
    def ids(**rules):
        return bundle.recommend(["a"], k=6, **rules)["item_id"].tolist()

    assert set(ids(only=["e", "b"])) == {"e", "b"}
    assert set(ids(exclude=["e", "b"])) == {"c", "d", "f"}
    assert ids(exclude=[]) == ids()
    assert set(ids(only=["e", "b"], exclude=pd.Series(["b"]))) == {"e"}
    assert set(ids(allow_seen=True)) == set(IDS)
    with pytest.raises(flr.DataError, match="only: none of its ids is known"):
        ids(only=["z"])
    with pytest.raises(flr.DataError, match="exclude leaves nothing"):
        ids(only=["e"], exclude=["e"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"histories": "abc"}, "not the text 'abc'"),
        ({"histories": ["a"], "unknown": "ignore"}, "unknown is 'ignore'"),
        ({"histories": ["a"], "k": 0}, "--top-k is 0"),
        ({"histories": ["a"], "fallback": "newest"}, "--fallback is 'newest', not one of none, popular"),
        ({"histories": pd.DataFrame({"user_id": ["u"], "item_id": ["a"]}), "times": [1]}, "times are for one history"),
    ],
)
def test_arguments_that_cannot_be_are_refused(bundle, arguments, said):
    with pytest.raises(flr.ConfigError, match=said):
        bundle.recommend(**arguments)


@pytest.mark.parametrize(
    ("history", "times", "said"),
    [
        ([], None, "empty history"),
        (["a", "b"], [1], "2 items but 1 time"),
        (["a", "b"], ["01/02/2024", "03/04/2024"], "times: "),
        ([["a"]], None, "an id is a list"),
    ],
)
def test_a_history_that_cannot_be_used_says_why(bundle, history, times, said):
    with pytest.raises(flr.DataError, match=said):
        bundle.recommend(history, times=times)


def test_an_explanation_is_that_of_flr_explain(bundle):
    explanation = bundle.explain(["a"], item="f")
    assert [reason.item_id for reason in explanation.reasons] == ["f"]
    assert explanation.reasons[0].history[0].item_id == "a"
    assert len(bundle.explain(["a"], k=2).reasons) == 2


def test_an_answer_takes_milliseconds(bundle):
    bundle.recommend(["a", "b"], because=True)
    took = []
    for _ in range(20):
        began = time.perf_counter()
        bundle.recommend(["a", "b"], k=10, because=True)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.05  # below 10 ms on a machine that does nothing else
