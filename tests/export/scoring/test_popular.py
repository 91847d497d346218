"""Users of whom nothing is known, with --fallback popular."""

import csv
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from flr_export.scoring.most_per import MostPer
from flr_export.scoring.rules import ItemRules
from flr_export.scoring.score import score_file
from flr_model.config import ScoreConfig
from flr_model.data.catalog import Catalog, MoreOfItems
from flr_model.errors import ArtifactError
from flr_model.ranking.evidence import Evidence
from tests.export.toy import IDS, TITLES, toy_evidence, toy_recommender

DEGREE = np.asarray([1, 6, 0, 2, 4, 2])  # of a to f; 15 interactions
POPULAR = ["b", "e", "d", "f", "a", "c"]
WIDE = "user_id,history\nu,a\nnew,x y\nblank,\nv,b d\nbad,[1\n"


def shop(degree=DEGREE):
    """The toy, its items of categories x, y, x|y, y, none, x."""
    recommender = toy_recommender()
    recommender.evidence = replace(toy_evidence(), degree=degree)
    cells = np.asarray(["x", "y", "x|y", "y", "", "x"], object)
    recommender.catalog = Catalog(IDS, TITLES, MoreOfItems(None, {"category": cells}))
    return recommender


@pytest.fixture
def run(tmp_path):
    """Score text and return the report and each user's items."""

    def score(text=WIDE, *, out="recs.csv", fallback="popular", recommender=None, top_k=3, batch_size=1024, **given):
        (tmp_path / "histories.csv").write_text(text)
        for name in ("only", "exclude", "boost", "candidates"):
            if name in given:
                (tmp_path / name).write_text(given[name])
                given[name] = tmp_path / name
        candidates = given.pop("candidates", None)
        config = ScoreConfig(top_k=top_k, fallback=fallback, batch_size=batch_size)
        path = tmp_path / out
        report = score_file(
            recommender or shop(), tmp_path / "histories.csv", path, config=config, candidates=candidates,
            rules=ItemRules(**given), overwrite=True,
        )  # fmt: skip
        if out.endswith(".parquet"):
            return report, pq.read_table(path).to_pylist()
        with path.open(newline="") as file:
            return report, list(csv.DictReader(file))

    return score


def lists(rows):
    found = {}
    for row in rows:
        found.setdefault(row["user_id"], []).append(row["item_id"])
    return found


def test_users_without_a_known_item_get_the_most_popular_ones_in_their_place(run, tmp_path):
    plain, without = run(fallback="none")
    assert (plain.scored, plain.popular, plain.rejected) == (2, 0, 3)
    report, rows = run()
    assert (report.users, report.scored, report.popular, report.rejected) == (5, 4, 2, 1)
    assert lists(rows) == {**lists(without), "new": POPULAR[:3], "blank": POPULAR[:3]}
    assert list(dict.fromkeys(row["user_id"] for row in rows)) == ["u", "new", "blank", "v"]
    by_source = {name: {row["user_id"] for row in rows if row["source"] == name} for name in ("model", "popular")}
    assert by_source == {"model": {"u", "v"}, "popular": {"new", "blank"}}
    first = next(row for row in rows if row["user_id"] == "new")
    assert float(first["score"]) == pytest.approx(6 / 15, rel=1e-5)
    assert [first[name] for name in ("factor_1", "factor_2", "counted", "because_item_id")] == [""] * 4
    assert [{**row, "source": "model"} for row in without] == [row for row in rows if row["source"] == "model"]
    rejected = (tmp_path / "recs.csv.rejects.csv").read_text()
    assert "bad" in rejected
    assert "blank" not in rejected


def test_without_it_the_result_has_no_column_of_sources(run):
    _, rows = run(fallback="none")
    assert list(rows[0])[-1] == "because_title"


def test_chunks_change_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr("flr_export.scoring.chunks.FIRST_CHUNK", 1)
    text = WIDE * 3
    run(text, batch_size=2)
    small = (tmp_path / "recs.csv").read_bytes()
    monkeypatch.undo()
    run(text)
    assert (tmp_path / "recs.csv").read_bytes() == small


def test_the_rules_hold_for_popular_items_too(run):
    text = "user_id,history\nu,a\nnew,x\n"
    assert lists(run(text, exclude="b\n")[1])["new"] == ["e", "d", "f"]
    assert lists(run(text, only="a\nc\nf\n")[1])["new"] == ["f", "a", "c"]
    _, boosted = run(text, boost="item_id,factor\nf,4\n")
    assert lists(boosted)["new"] == ["f", "b", "e"]
    assert float(boosted[3]["score"]) == pytest.approx(8 / 15, rel=1e-5)
    assert lists(run(text, most_per=MostPer("category", 1), top_k=6)[1])["new"] == ["b", "e", "f"]


def test_candidates_are_chosen_from_by_popularity(run, tmp_path):
    text = "user_id,history\nnew,x\nu,a\nother,x\nnobody,x\n"
    given = "user_id,items\nnew,a d c\nu,b f\nother,zzz\n"
    report, rows = run(text, candidates=given)
    assert lists(rows) == {"new": ["d", "a", "c"], "u": ["f", "b"]}
    assert (report.scored, report.popular, report.rejected) == (2, 1, 2)
    assert "no candidate is left" in (tmp_path / "recs.csv.rejects.csv").read_text()


def test_long_form_and_parquet(run):
    text = "user_id,item_id,timestamp\nnew,x,1\nu,a,1\nlost,,1\n"
    report, rows = run(text, out="recs.parquet")
    assert (report.popular, report.broken_lines) == (2, 1)
    assert lists(rows)["lost"] == POPULAR[:3]
    assert rows[0]["factor_1"] is None
    assert rows[0]["source"] == "popular"


def test_it_is_said_where_nobody_is_known(run, caplog):
    report, _ = run("user_id,history\nv,x\nw,y\n")
    assert report.popular == 2
    assert "no user has a known item" in caplog.text
    assert "--item-col" in caplog.text


def test_new_items_are_the_least_popular(run):
    wider = shop().with_items(["n"], ["even new"])
    _, rows = run("user_id,history\nu,x\n", recommender=wider, top_k=9)
    assert lists(rows)["u"] == [*POPULAR, "n"]


def test_a_bundle_without_the_counts_says_so(run):
    with pytest.raises(ArtifactError, match="how often its items were bought") as caught:
        run(recommender=shop(degree=None))
    assert "export again" in caught.value.hint


def test_the_counts_are_saved_and_may_be_absent(tmp_path):
    for evidence in (toy_evidence(), replace(toy_evidence(), degree=DEGREE)):
        evidence.write(tmp_path / "evidence.npz")
        read = Evidence.read(tmp_path / "evidence.npz")
        assert (read.degree is None) == (evidence.degree is None)
        if read.degree is not None:
            assert read.degree.tolist() == DEGREE.tolist()
