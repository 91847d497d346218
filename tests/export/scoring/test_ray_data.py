import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("onnxruntime")

from flr_export.runtime import load_bundle
from flr_export.scoring.ray_data import BatchScorer, score_dataset
from flr_export.scoring.score import score_file
from flr_model import columns
from flr_model.config import ScoreConfig
from tests.export.toy import write_toy_bundle

CONFIG = ScoreConfig(top_k=2, batch_size=16)


@pytest.fixture
def bundle(tmp_path):
    return write_toy_bundle(tmp_path / "bundle")


@pytest.fixture
def users(tmp_path):
    """Parquet of 101 users in two files; every tenth knows no item of the catalogue."""
    histories = [["x"] if n % 10 == 3 else list("abcdef"[n % 6 : n % 6 + 1 + n % 3]) for n in range(101)]
    table = pa.table({columns.USER: [f"u{n}" for n in range(101)], columns.HISTORY: histories})
    (tmp_path / "users").mkdir()
    for part, start in enumerate((0, 40)):
        pq.write_table(table.slice(start, 40 if part == 0 else None), tmp_path / "users" / f"{part}.parquet")
    pq.write_table(table, tmp_path / "users.parquet")
    return table


def key(row):
    return row[columns.USER], int(row[columns.RANK])


def check_same(rows, bundle, folder):
    """The rows hold what `score_file` gives for the same users: recommendations and rejects."""
    out = folder / "recs.csv"
    report = score_file(load_bundle(bundle, threads=1), folder / "users.parquet", out, config=CONFIG)
    with out.open(newline="") as file:
        expected = sorted(csv.DictReader(file), key=key)
    found = sorted((row for row in rows if row["reason"] is None), key=key)
    names = [columns.USER, columns.ITEM, columns.TITLE]
    assert [[row[n] for n in names] for row in found] == [[row[n] for n in names] for row in expected]
    assert [f"{row['score']:.6g}" for row in found] == [row["score"] for row in expected]
    rejected = {row[columns.USER]: row["reason"] for row in rows if row["reason"] is not None}
    with report.rejects.open(newline="") as file:
        assert rejected == {row[columns.USER]: row["reason"] for row in csv.DictReader(file)}
    assert len({row[columns.USER] for row in rows}) == 101


def test_a_table_is_scored_as_a_file_is(bundle, users, tmp_path):
    scorer = BatchScorer(bundle, CONFIG, (columns.USER, columns.HISTORY))
    check_same(scorer(users).to_pylist(), bundle, tmp_path)


def test_nobody_that_can_be_scored_gives_reasons_only(bundle):
    scorer = BatchScorer(bundle, CONFIG, ("who", "what"))
    (row,) = scorer(pa.table({"who": ["u"], "what": [["x"]]})).to_pylist()
    assert (row[columns.USER], row[columns.ITEM]) == ("u", None)
    assert "none of its 1 items is known" in row["reason"]


def test_users_without_a_known_item_get_what_is_popular(tmp_path):
    bundle = write_toy_bundle(tmp_path / "counting", degree=np.asarray([1, 6, 0, 2, 4, 2]))
    config = ScoreConfig(top_k=2, fallback="popular")
    users = pa.table({"who": ["u", "new", "blank", "v"], "what": [["a"], ["x"], [], ["b"]]})
    rows = BatchScorer(bundle, config, ("who", "what"))(users).to_pylist()
    found = [(row[columns.USER], row[columns.ITEM]) for row in rows if row[columns.SOURCE] == "popular"]
    assert found == [("new", "b"), ("new", "e"), ("blank", "b"), ("blank", "e")]
    assert [row[columns.USER] for row in rows if row[columns.SOURCE] == "model"] == ["u", "u", "v", "v"]
    assert {row["reason"] for row in rows} == {None}


@pytest.mark.slow
def test_ray_with_two_workers_gives_what_one_process_gives(bundle, users, tmp_path):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)  # one for reading
    try:
        data = ray.data.read_parquet(str(tmp_path / "users")).repartition(4)  # so that both have something to do
        scored = score_dataset(bundle, data, config=CONFIG, workers=2)
        rows = scored.take_all()
    finally:
        ray.shutdown()
    check_same(rows, bundle, tmp_path)
