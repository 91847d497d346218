import json

import pytest

from flr_cli.app import main
from flr_model.config import ModelConfig, TrainConfig
from flr_model.config_io import build, read_tables
from flr_model.errors import ConfigError


def test_auto_is_a_word_of_the_settings_that_know_it(tmp_path):
    file = tmp_path / "flr.toml"
    file.write_text('[model]\nn_factors = "auto"\n[train]\nepochs = "auto"\n')
    tables = read_tables(file)
    assert build(ModelConfig, tables["model"]).n_factors == 0
    assert build(TrainConfig, tables["train"]).epochs == 0
    assert build(ModelConfig, {}, {"n_factors": "auto"}).n_factors == 0
    with pytest.raises(ConfigError, match=r"refine_steps in .model. is 'auto', expected int"):
        build(ModelConfig, {"refine_steps": "auto"})


def test_a_word_that_is_no_number_is_a_usage_error(capsys):
    assert main(["train", "data", "--out", "run", "--n-factors", "many"]) == 2
    assert "n-factors" in capsys.readouterr().err


@pytest.mark.parametrize("asked", ["auto", "2"])
def test_train_chooses_the_number_of_factors_when_asked(
    asked, tiny_dataset, tiny_backbone, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("flr_model.training.factor_choice.TRIED", (1, 3))
    words = ["--backbone", str(tiny_backbone), "--embedding-size", "16", "--epochs", "1", "--batch-size", "64"]
    out = tmp_path / "run"
    assert main(["train", str(tiny_dataset), "--out", str(out), "--n-factors", asked, *words, "--json", "--quiet"]) == 0
    said = json.loads(capsys.readouterr().out)["n_factors"]
    kept = read_tables(out / "config.toml")["model"]["n_factors"]
    if asked == "2":
        assert (said, kept) == ("2", 2)
    else:
        assert kept in (1, 3)
        assert said.startswith(f"{kept}: K = ")
