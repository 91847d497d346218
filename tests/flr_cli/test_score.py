import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from flr_model.artifacts import Manifest
from tests.builders import reseal
from tests.export.toy import write_toy_bundle

ROOT = Path(__file__).parents[2]

LONG = "user_id,item_id,timestamp\nu,a,1\nv,b,1\nv,d,2\n"


@pytest.fixture
def flr():
    from flr_cli.app import main

    return main


@pytest.fixture
def bundle(tmp_path):
    return write_toy_bundle(tmp_path / "bundle")


@pytest.fixture
def histories(tmp_path):
    (tmp_path / "histories.csv").write_text(LONG)
    return tmp_path / "histories.csv"


def test_score_writes_the_recommendations_and_a_summary(flr, bundle, histories, tmp_path, capsys):
    code = flr(["score", str(bundle), str(histories), "--out", str(tmp_path / "recs.csv"), "--top-k", "2", "--json"])
    assert code == 0
    report = json.loads(capsys.readouterr().out)
    assert {name: report[name] for name in ("users", "scored", "rejected", "rows")} == {
        "users": 2, "scored": 2, "rejected": 0, "rows": 4,
    }  # fmt: skip
    with (tmp_path / "recs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["user_id"], row["rank"], row["item_id"]) for row in rows] == [
        ("u", "1", "c"), ("u", "2", "e"), ("v", "1", "f"), ("v", "2", "a"),
    ]  # fmt: skip


def test_every_option_reaches_the_library(flr, bundle, tmp_path, capsys):
    (tmp_path / "h.csv").write_text("who,what,when\nu,x,2\nu,b,1\n" + "".join(f"w{i},a,1\n" for i in range(9)))
    (tmp_path / "items.csv").write_text("what,label\nx,even new\ny,even newer\n")
    (tmp_path / "candidates.csv").write_text("user_id,items\nu,y c\n" + "".join(f"w{i},y\n" for i in range(9)))
    (tmp_path / "settings.toml").write_text("[score]\ntop_k = 1\nbatch_size = 2\n")
    shared = ["score", str(bundle), str(tmp_path / "h.csv"), "--items", str(tmp_path / "items.csv"), "--candidates",
              str(tmp_path / "candidates.csv"), "--user-col", "who", "--item-col", "what", "--time-col", "when",
              "--title-col", "label", "--form", "long", "--config", str(tmp_path / "settings.toml"), "--allow-seen",
              "--strict", "--resume", "--quiet"]  # fmt: skip
    for part in ("1/2", "2/2"):
        assert flr([*shared, "--shards", part, "--out", str(tmp_path / f"{part[0]}.csv")]) == 0
    rows = [row for part in "12" for row in csv.DictReader((tmp_path / f"{part}.csv").open())]
    assert len(rows) == 10
    assert {row["item_id"] for row in rows} == {"y"}


def test_rules_hold_for_all_users(flr, bundle, histories, tmp_path, capsys):
    (tmp_path / "season.txt").write_text("c\ne\nf\n")
    (tmp_path / "gone.csv").write_text("sku;stock\nf;0\nold;0\n")
    command = ["score", str(bundle), str(histories), "-o", str(tmp_path / "recs.csv"), "--item-col", "exclude=sku"]
    rules = ["--only-items", str(tmp_path / "season.txt"), "--exclude-items", str(tmp_path / "gone.csv")]
    assert flr([*command, *rules]) == 0
    assert "unknown ids, which are left out: 1 of 2, for instance old" in " ".join(capsys.readouterr().err.split())
    rows = list(csv.DictReader((tmp_path / "recs.csv").open()))
    assert [(row["user_id"], row["item_id"]) for row in rows] == [("u", "c"), ("u", "e"), ("v", "c"), ("v", "e")]
    (tmp_path / "gone.csv").write_text("old\n")
    assert flr([*command, *rules, "--overwrite"]) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "none of its ids is known (1 id, for instance old)" in said
    assert "--item-col exclude=NAME" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("user_id,item_id\n", "and no rows"),
        ("user_id,rating\nu,1\n", "has no item_id column"),
        ("user_id item_id\nu a\n", "the delimiter may be none of comma"),
        ("user_id,item_id,timestamp\nu,a,soon\n", "the time is neither a number nor a date: 'soon'"),
        ("user_id,item_id\nu,x\n", "none of its 1 items is known, for instance x"),
    ],
)
def test_unusable_file_is_code_3_with_one_message_and_the_old_result_stays(
    flr, bundle, tmp_path, capsys, text, message
):
    (tmp_path / "h.csv").write_text(text)
    (tmp_path / "recs.csv").write_text("old")
    assert flr(["score", str(bundle), str(tmp_path / "h.csv"), "-o", str(tmp_path / "recs.csv"), "--overwrite"]) == 3
    streams = capsys.readouterr()
    assert message in streams.err
    assert "try:" in streams.err
    assert streams.out == ""
    assert (tmp_path / "recs.csv").read_text() == "old"


def test_truncated_gzip_is_code_3(flr, bundle, tmp_path, capsys):
    whole = gzip.compress(("user_id,item_id\n" + "".join(f"u{i},a\n" for i in range(4000))).encode())
    (tmp_path / "h.csv.gz").write_bytes(whole[:-200])
    assert flr(["score", str(bundle), str(tmp_path / "h.csv.gz"), "-o", str(tmp_path / "recs.csv")]) == 3
    assert "damaged gzip" in capsys.readouterr().err
    assert not (tmp_path / "recs.csv").exists()


def test_existing_result_is_code_3_unless_overwritten(flr, bundle, histories, tmp_path, capsys):
    command = ["score", str(bundle), str(histories), "-o", str(tmp_path / "recs.csv"), "--quiet"]
    assert flr(command) == 0
    assert flr(command) == 3
    assert "--overwrite" in capsys.readouterr().err
    assert flr([*command, "--overwrite"]) == 0


def test_resuming_a_finished_job_says_so(flr, bundle, histories, tmp_path, capsys):
    command = ["score", str(bundle), str(histories), "-o", str(tmp_path / "recs.csv"), "--resume"]
    assert flr(command) == 0
    before = (tmp_path / "recs.csv").stat().st_mtime_ns
    capsys.readouterr()
    assert flr(command) == 0
    assert "recs.csv is finished: nothing to resume\ntry: add --overwrite" in capsys.readouterr().err
    assert (tmp_path / "recs.csv").stat().st_mtime_ns == before


def test_folder_of_the_wrong_kind_is_code_3(flr, histories, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    Manifest("dataset").write(tmp_path / "data")
    assert flr(["score", str(tmp_path / "data"), str(histories), "-o", str(tmp_path / "recs.csv")]) == 3
    streams = capsys.readouterr()
    assert "expected a bundle, got a dataset" in streams.err
    assert "flr train" in streams.err
    assert "--onnx --out bundle" in " ".join(streams.err.split())


@pytest.mark.parametrize("flags", [["--top-k", "0"], ["--shards", "3/2"], ["--form", "tall"]])
def test_impossible_option_is_code_2(flr, bundle, histories, tmp_path, flags):
    assert flr(["score", str(bundle), str(histories), "-o", str(tmp_path / "recs.csv"), *flags]) == 2


def test_missing_onnxruntime_is_code_1_and_names_the_extra(flr, bundle, histories, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert flr(["score", str(bundle), str(histories), "-o", str(tmp_path / "recs.csv")]) == 1
    assert '[cpu]"' in capsys.readouterr().err


def test_rejects_are_named_in_the_summary(flr, bundle, tmp_path, capsys):
    (tmp_path / "h.csv").write_text("user_id,item_id\nu,a\nv,x\n")
    assert flr(["score", str(bundle), str(tmp_path / "h.csv"), "-o", str(tmp_path / "recs.csv"), "--json"]) == 0
    streams = capsys.readouterr()
    report = json.loads(streams.out)
    assert (report["scored"], report["rejected"]) == (1, 1)
    assert report["rejects"] == str(tmp_path / "recs.csv.rejects.csv")
    assert "1 interactions are with unknown items, for instance x" in streams.err


def test_scoring_imports_neither_torch_nor_transformers(bundle, histories, tmp_path):
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'optimum', 'scipy'): sys.modules[name] = None\n"
        "from flr_export.scoring.score import score_file\n"
        "from flr_export.runtime import load_bundle\n"
        "from flr_model.config import ScoreConfig\n"
        "from pathlib import Path\n"
        "bundle, histories, out = map(Path, sys.argv[1:])\n"
        "score_file(load_bundle(bundle), histories, out, config=ScoreConfig())\n"
    )
    arguments = [str(bundle), str(histories), str(tmp_path / "recs.csv")]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, cwd=ROOT)
    assert (tmp_path / "recs.csv").exists()


def test_score_reads_the_columns_and_dates_that_the_bundle_remembers(flr, tmp_path, capsys):
    bundle = write_toy_bundle(tmp_path / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    names = {"user_id": "wer", "item_id": "was", "timestamp": "wann"}
    reading = {"interactions": {"columns": names, "time_format": "day-first"}}
    reseal(bundle, content={**manifest["content"], "reading": reading})
    (tmp_path / "h.csv").write_text("wer,item,was,wann\nu,9,b,1/2/2020\nu,9,d,2/1/2020\nv,9,a,1/1/2020\n")
    (tmp_path / "plain.csv").write_text("user_id,item_id,timestamp\nu,b,2020-02-01\nu,d,2020-01-02\nv,a,2020-01-01\n")
    for name in ("h", "plain"):
        assert flr(["score", str(bundle), str(tmp_path / f"{name}.csv"), "-o", str(tmp_path / f"{name}.recs.csv")]) == 0
    assert (tmp_path / "h.recs.csv").read_bytes() == (tmp_path / "plain.recs.csv").read_bytes()
    other = ["--time-format", "month-first", "-o", str(tmp_path / "other.csv")]
    assert flr(["score", str(bundle), str(tmp_path / "h.csv"), *other]) == 0


def test_score_says_that_it_takes_the_order_of_the_file(flr, bundle, tmp_path, capsys):
    (tmp_path / "h.csv").write_text("user_id,item_id,wann\nu,a,2020-01-01\nv,b,2020-01-01\n")
    command = ["score", str(bundle), str(tmp_path / "h.csv"), "-o", str(tmp_path / "recs.csv"), "--overwrite"]
    assert flr(command) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "no time column that flr knows ('wann' looks like times)" in said
    assert flr([*command, "--no-time"]) == 0
    assert "time column" not in capsys.readouterr().err
