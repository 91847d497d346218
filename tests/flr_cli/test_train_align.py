import json
import sys

import pytest

pytest.importorskip("torch")

from flr_cli.app import main
from flr_model.artifacts import open_folder
from flr_model.config_io import dump_toml
from flr_model.data.dataset import Dataset
from tests.builders import tiny_model, tiny_train


@pytest.fixture
def settings(tmp_path, tiny_backbone):
    path = tmp_path / "tiny.toml"
    path.write_text(dump_toml([tiny_model(tiny_backbone), tiny_train(epochs=1)]))
    return str(path)


def test_train_writes_a_run_and_prints_its_report(tmp_path, tiny_dataset, settings, capsys):
    out = tmp_path / "run"
    assert main(["train", str(tiny_dataset), "--out", str(out), "--config", settings, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == open_folder(out, "run").content["report"]
    assert report["valid"]["NDCG@10"] > 0


def test_a_flag_wins_over_the_file(tmp_path, tiny_dataset, settings, capsys):
    words = ["train", str(tiny_dataset), "--out", str(tmp_path / "run"), "--config", settings, "--n-factors", "1"]
    assert main([*words, "--max-steps", "1", "--json"]) == 0
    assert open_folder(tmp_path / "run", "run").settings["model"]["n_factors"] == 1


def test_a_dry_run_shows_sizes_and_time_and_writes_nothing(tmp_path, tiny_dataset, settings, capsys):
    out = tmp_path / "run"
    words = ["train", str(tiny_dataset), "--out", str(out), "--config", settings, "--dry-run", "--json"]
    assert main(words) == 0
    plan = json.loads(capsys.readouterr().out)
    assert len(plan["examples"]) == 2
    assert all(" -> " in example for example in plan["examples"])
    assert plan["steps"] == -(-plan["rows"] // 64)
    assert plan["parameters"]["backbone"] > 0 < plan["seconds_per_step"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.toml"]


def test_a_dry_run_of_titles_plans_what_writes_them_too(tmp_path, tiny_dataset, settings, capsys):
    words = ["train", str(tiny_dataset), "--out", str(tmp_path / "run"), "--config", settings, "--dry-run", "--json"]
    plans = []
    for more in ([], ["--decoder", "title", "--writing-rows", "100", "--title-epochs", "3", "--max-steps", "5"]):
        assert main([*words, *more]) == 0
        plans.append(json.loads(capsys.readouterr().out))
    assert (plans[0]["title_steps"], plans[0]["writing_steps"]) == (0, 0)
    assert (plans[1]["title_steps"], plans[1]["writing_steps"]) == (3, 4)
    assert plans[1]["trainable"] > plans[0]["trainable"]


def test_a_dry_run_of_a_choice_plans_the_largest_model_that_would_be_tried(tmp_path, tiny_dataset, settings, capsys):
    words = ["train", str(tiny_dataset), "--out", str(tmp_path / "run"), "--config", settings, "--dry-run", "--json"]
    plans = {}
    for k in ("6", "auto"):
        assert main([*words, "--n-factors", k]) == 0
        plans[k] = json.loads(capsys.readouterr().out)
    assert plans["auto"]["n_factors"].startswith("6: the largest of 1, 2, 3, 4, 5, 6")
    assert plans["auto"]["parameters"] == plans["6"]["parameters"]
    assert plans["6"]["n_factors"] == "6"


def test_a_dry_run_of_a_refit_plans_the_run_on_more_rows(tmp_path, tiny_dataset, tiny_run, capsys):
    words = [
        "train",
        str(tiny_dataset),
        "--out",
        str(tmp_path / "run"),
        "--refit",
        str(tiny_run),
        "--dry-run",
        "--json",
    ]
    assert main(words) == 0
    plan, dataset = json.loads(capsys.readouterr().out), Dataset.open(tiny_dataset)
    assert plan["rows"] == len(dataset.rows("train")) + len(dataset.rows("valid"))
    assert plan["n_factors"] == "2"


def test_an_existing_run_is_not_replaced_unless_asked(tmp_path, tiny_dataset, settings, capsys):
    out = tmp_path / "run"
    words = ["train", str(tiny_dataset), "--out", str(out), "--config", settings, "--max-steps", "1", "--quiet"]
    assert main(words) == 0
    before = (out / "manifest.json").read_bytes()
    assert main(words) == 3
    assert "--overwrite" in capsys.readouterr().err
    assert (out / "manifest.json").read_bytes() == before
    assert main([*words, "--overwrite"]) == 0


def test_a_misspelt_setting_names_the_nearest(tmp_path, tiny_dataset, capsys):
    (tmp_path / "bad.toml").write_text("[model]\nn_factor = 2\n")
    words = ["train", str(tiny_dataset), "--out", str(tmp_path / "run"), "--config", str(tmp_path / "bad.toml")]
    assert main(words) == 2
    assert "did you mean n_factors?" in capsys.readouterr().err


def test_an_unknown_backbone_names_what_can_be_fetched(tmp_path, tiny_dataset, capsys):
    words = ["train", str(tiny_dataset), "--out", str(tmp_path / "run"), "--backbone", str(tmp_path / "nowhere")]
    assert main(words) == 3
    assert "smollm2-135m" in capsys.readouterr().err


def test_a_backbone_that_was_not_fetched_names_the_command(tmp_path, tiny_dataset, capsys, monkeypatch):
    monkeypatch.setenv("FLR_CACHE", str(tmp_path / "empty"))
    assert main(["train", str(tiny_dataset), "--out", str(tmp_path / "run")]) == 3
    assert "flr fetch smollm2-135m" in capsys.readouterr().err


def test_a_sentence_encoder_that_was_not_fetched_names_the_command(
    tmp_path, tiny_dataset, tiny_backbone, capsys, monkeypatch
):
    monkeypatch.setenv("FLR_CACHE", str(tmp_path / "empty"))
    words = ["train", str(tiny_dataset), "--out", str(tmp_path / "run"), "--backbone", str(tiny_backbone)]
    assert main([*words, "--item-readers", "backbone,minilm"]) == 3
    assert "flr fetch minilm" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "align"])
def test_without_torch_the_extra_is_named(command, tmp_path, tiny_dataset, tiny_run, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("flr_model.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    source = {"train": tiny_dataset, "align": tiny_run}[command]
    assert main([command, str(source), "--out", str(tmp_path / "out")]) == 1
    assert '[train]"' in capsys.readouterr().err


def test_align_writes_a_run_and_says_what_it_kept(tmp_path, tiny_run, capsys):
    out = tmp_path / "aligned"
    assert main(["align", str(tiny_run), "--out", str(out), "--batch-size", "64", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    content = open_folder(out, "run").content
    assert (content["stage"], content["align"]) == ("align", report)
    assert report["kept"] == ("aligned" if report["after"]["NDCG@10"] > report["before"]["NDCG@10"] else "sft")


def test_align_of_a_dataset_says_what_makes_a_run(tmp_path, tiny_dataset, capsys):
    assert main(["align", str(tiny_dataset), "--out", str(tmp_path / "aligned")]) == 3
    error = capsys.readouterr().err
    assert "expected a run, got a dataset" in error
    assert "flr train" in error
