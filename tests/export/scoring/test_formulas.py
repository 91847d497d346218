"""Texts that a spreadsheet would take for formulas."""

import csv

import numpy as np
import pyarrow.parquet as pq
import pytest

from flr_export.scoring.score import score_file
from flr_model.config import ScoreConfig
from flr_model.data.catalog import Catalog
from tests.export.toy import toy_recommender

IDS = ["+a", "-b", "@c", "d=1", "=e", "f"]
TITLES = ["=1+1", "\tone", "\rtwo", "@SUM(A1)", "a-b", "=quoted"]


@pytest.fixture
def run(tmp_path):
    def score(out, *, escape):
        recommender = toy_recommender()
        recommender.catalog = Catalog(np.asarray(IDS, object), np.asarray(TITLES, object))
        (tmp_path / "histories.csv").write_text("user_id,history\n=u,f\n@w,nothing\n")
        config = ScoreConfig(top_k=5, escape_formulas=escape)
        score_file(recommender, tmp_path / "histories.csv", tmp_path / out, config=config, overwrite=True)
        return tmp_path / out

    return score


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_texts_of_csv_files_are_marked_and_numbers_are_not(run, tmp_path):
    plain, marked = read(run("recs.csv", escape=False)), read(run("recs.csv", escape=True))
    of = dict(zip(IDS, TITLES, strict=True))
    assert {row["item_id"]: row["title"] for row in plain} == {item: of[item] for item in IDS[:5]}
    assert {row["item_id"]: row["title"] for row in marked} == {
        "'+a": "'=1+1", "'-b": "'\tone", "'@c": "'\rtwo", "d=1": "'@SUM(A1)", "'=e": "a-b",
    }  # fmt: skip
    assert {row["user_id"] for row in marked} == {"'=u"}
    assert {row["because_title"] for row in marked} - {""} == {"'=quoted"}
    numbers = ("rank", "score", "factor_1", "counted")
    assert [[row[name] for name in numbers] for row in marked] == [[row[name] for name in numbers] for row in plain]
    assert read(tmp_path / "recs.csv.rejects.csv")[0]["user_id"] == "'@w"


def test_parquet_keeps_texts_as_they_are(run):
    rows = pq.read_table(run("recs.parquet", escape=True)).to_pylist()
    assert {row["item_id"] for row in rows} == set(IDS[:5])
    assert {row["user_id"] for row in rows} == {"=u"}
