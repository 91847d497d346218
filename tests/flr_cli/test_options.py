import json
import re
from importlib import import_module

import pytest
import typer

from flr_cli.app import app, main
from flr_model.config import ModelConfig, TrainConfig
from flr_model.config_io import build, read_tables
from flr_model.errors import ConfigError


def test_auto_is_a_word_of_the_settings_that_know_it(tmp_path):
    file = tmp_path / "flr.toml"
    file.write_text('[model]\nn_factors = "auto"\n[train]\nepochs = "auto"\n')
    tables = read_tables(file)
    assert build(ModelConfig, tables["model"]).n_factors is None
    assert build(TrainConfig, tables["train"]).epochs is None
    assert build(ModelConfig, {}, {"n_factors": "auto"}).n_factors is None
    with pytest.raises(ConfigError, match=r"refine_steps in .model. is 'auto', expected int"):
        build(ModelConfig, {"refine_steps": "auto"})


def test_a_word_that_is_no_number_is_a_usage_error(capsys):
    assert main(["train", "data", "--out", "run", "--n-factors", "many"]) == 2
    assert "n-factors" in capsys.readouterr().err


@pytest.mark.parametrize("asked", ["auto", "2"])
def test_train_chooses_the_number_of_factors_when_asked(
    asked, tiny_dataset, tiny_backbone, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(import_module("flr_model.training.factor_choice"), "TRIED", (1, 3))
    words = ["--backbone", str(tiny_backbone), "--item-readers", "backbone", "--embedding-size", "16"]
    words += ["--epochs", "1", "--batch-size", "64"]
    out = tmp_path / "run"
    assert main(["train", str(tiny_dataset), "--out", str(out), "--n-factors", asked, *words, "--json", "--quiet"]) == 0
    said = json.loads(capsys.readouterr().out)["n_factors"]
    kept = read_tables(out / "config.toml")["model"]["n_factors"]
    if asked == "2":
        assert (said, kept) == ("2", 2)
    else:
        assert kept in (1, 3)
        assert said.startswith(f"{kept}: K = ")


COMMANDS = typer.main.get_command(app).commands
SHARED = {"quiet", "verbose", "log_file"}
USUAL = SHARED | {"config", "overwrite", "json"}
FILES = "user_col item_col time_col title_col history_col history_time_col time time_format encoding delimiter header"
OPTIONS = {
    "fetch": "name",
    "prepare": f"out interactions items train valid test {FILES} split valid_fraction test_fraction k_core strict "
    "tie_order item_text max_history",
    "train": "dataset out refit resume dry_run backbone encoding decoder n_factors layers item_layers item_readers "
    "title_prompt title_tokens max_history max_tokens refine_steps latent_tokens embedding_size dropout prompt beams "
    "guidance tuning epochs batch_size seed max_steps patience valid_rows sequence_epochs title_epochs forecast "
    "writing_rows writer_tuning writer_layers "
    "lora_rank backbone_learning_rate learning_rate residual_learning_rate reasoner_learning_rate "
    "scalar_learning_rate weight_decay warmup_steps grad_accumulation orthogonality diversity sparsity title_softmax "
    "full_softmax_items negatives precision title_precision report_to",
    "align": "run out data epochs max_rows batch_size learning_rate seed policy reward advantage group_size noise "
    "clip_low clip_high kl refresh_steps max_steps valid_rows warmup_steps cache_mb report_to",
    "update": "source interactions out items data data_out held_out max_rows epochs rate seed max_loss",
    "eval": f"source data against recs out {FILES} segment split match allow_seen baselines max_rows guidance "
    "batch_size bootstrap seed",
    "export": "run out onnx data precision guidance tolerance max_ndcg_loss min_overlap max_size",
    "score": f"bundle histories out items candidates only_items exclude_items {FILES} form shards resume top_k "
    "boost max_per allow_seen fallback escape_formulas strict index threads batch_size",
    "explain": f"bundle user histories item {FILES} form top_k",
    "report": "sources html split data",
    "init": "out",
    "doctor": "folder",
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_options_are_these(name):
    names = {parameter.name for parameter in COMMANDS[name].params}
    assert names - USUAL == set(OPTIONS[name].split())
    assert names >= SHARED


def test_there_is_no_other_command():
    assert set(COMMANDS) == set(OPTIONS)


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("name", OPTIONS)
def test_help_is_grouped_and_fits_80_columns(name, flag, monkeypatch, capsys):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 80)
    assert main([name, flag]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    groups = re.findall(r"─ (.+?) ─", shown)
    assert groups[-1] == "Messages"
    assert groups.index("Options") <= 1  # after the arguments
    common = shown.split("─ Options ─")[1].split("╰")[0]
    assert len(re.findall(r"^│ \*? *--", common, re.MULTILINE)) <= 15


def test_the_ten_common_options_of_train_come_first(monkeypatch, capsys):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 80)
    assert main(["train", "--help"]) == 0
    common = capsys.readouterr().out.split("─ Options ─")[1].split("╰")[0]
    names = re.findall(r"^│ \*? *--([\w-]+)", common, re.MULTILINE)
    assert names == [
        "out",
        "config",
        "backbone",
        "encoding",
        "decoder",
        "n-factors",
        "tuning",
        "epochs",
        "batch-size",
        "seed",
        "help",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train d --out r --refit old --epochs 7 --seed 1", "--epochs, --seed would have no effect with --refit"),
        ("train d --out r --max-tokens 9", "--max-tokens would have no effect with --encoding items"),
        ("train d --out r --beams 3", "--beams would have no effect with --decoder catalog"),
        ("train d --out r --tuning lora --forecast 1", "--forecast would have no effect with --tuning lora"),
        ("prepare --out d --split leave-one-out --test-fraction .2", "--test-fraction would have no effect with"),
        ("prepare --out d --train a --valid b --test c --k-core 2", "--k-core would have no effect on ready-made"),
        ("export r --out b --precision fp32 --max-size 1", "--max-size would have no effect with --precision fp32"),
    ],
)
def test_a_flag_without_an_effect_is_refused(words, said, capsys):
    assert main(words.split()) == 2
    assert said in capsys.readouterr().err


def test_refit_refuses_a_file_of_settings(tmp_path, capsys):
    (tmp_path / "flr.toml").write_text("[train]\nepochs = 7\n")
    assert main(["train", "d", "--out", "r", "--refit", "old", "--config", str(tmp_path / "flr.toml")]) == 2
    assert "--config would have no effect with --refit" in capsys.readouterr().err


def test_a_file_may_hold_settings_without_an_effect(tmp_path, capsys):
    (tmp_path / "flr.toml").write_text("[model]\nmax_tokens = 96\n")
    assert main(["train", str(tmp_path / "gone"), "--out", "r", "--config", str(tmp_path / "flr.toml")]) == 3
    assert "would have no effect" not in capsys.readouterr().err


def test_title_settings_of_a_file_need_the_title_decoder(tmp_path, capsys):
    (tmp_path / "flr.toml").write_text("[title]\nbeams = 3\n")
    words = ["train", str(tmp_path / "gone"), "--out", "r", "--config", str(tmp_path / "flr.toml")]
    assert main(words) == 2
    assert "[title] are for --decoder title" in capsys.readouterr().err
    assert main([*words, "--decoder", "title"]) == 3


@pytest.mark.parametrize(
    ("words", "offered"),
    [("train --decoder ", ["catalog", "title"]), ("align --advantage g", ["group"]), ("fetch mini", ["minilm"])],
)
def test_a_shell_is_offered_the_choices(words, offered, monkeypatch, capsys):
    monkeypatch.setenv("_FLR_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"flr {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" "))))
    assert main([]) == 0
    assert capsys.readouterr().out.split() == offered
