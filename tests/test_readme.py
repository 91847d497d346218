"""The commands of README.md are run as they stand, on tiny files and a tiny backbone."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from flr_cli.app import main
from flr_model.config_io import dump_toml
from tests.builders import tiny_model, tiny_train

README = Path(__file__).parents[1] / "README.md"
SLOW_TO_FETCH = "fetch"


def commands():
    block = re.search(r"## Your own data\n(.*?)`interactions.csv` has", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.strip() for line in block[1].splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("flr ")]


def test_the_commands_for_ones_own_data_work_as_written(tmp_path, tiny_raw, tiny_backbone, monkeypatch):
    for name in ("interactions.csv", "items.csv"):
        (tmp_path / name).write_bytes((tiny_raw / name).read_bytes())
    (tmp_path / "tiny.toml").write_text(dump_toml([tiny_model(tiny_backbone), tiny_train(epochs=1)]))
    monkeypatch.chdir(tmp_path)
    ran = []
    for words in commands():
        if words[0] != SLOW_TO_FETCH:
            settings = ["--config", "tiny.toml"] if words[0] == "train" else []
            assert main([*words, *settings]) == 0, words
            ran.append(words[0])
    assert ran == ["prepare", "train", "eval", "export", "score"]
    recs = pd.read_csv("recs.csv")
    header = re.search(r"^ +(user_id,rank.*)$", README.read_text(encoding="utf-8"), re.MULTILINE)[1].split(",")
    parts = [name for name in recs.columns if name.startswith("factor_")]
    assert [name for name in header if not name.startswith("factor_")] == [c for c in recs.columns if c not in parts]
    assert recs.groupby("user_id").size().eq(10).all()


def test_every_command_of_the_table_exists(capsys):
    table = re.findall(r"^\| `flr (\w+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(table) >= 8
    for command in table:
        assert main([command, "--help"]) == 0
