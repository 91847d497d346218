"""The job of docs/weekly.md: its update runs as it stands, and its other lines use what exists."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("torch")

from flr_cli.app import main
from flr_model.artifacts import open_folder

PAGE = Path(__file__).parents[2] / "docs" / "weekly.md"


def commands():
    lines = re.findall(r"^ {4,}(flr .*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line.removesuffix("&&").replace("$name", "run-2026-11-30"))[1:] for line in lines]


def test_the_job_of_the_page(tmp_path, tiny_raw, tiny_run, monkeypatch, capsys):
    orders = pd.read_csv(tiny_raw / "interactions.csv")
    week = orders.tail(60).assign(timestamp=lambda table: table.timestamp + 366 * 86_400)
    pd.concat([orders, week]).to_csv(tmp_path / "interactions.csv", index=False)
    (tmp_path / "items.csv").write_bytes((tiny_raw / "items.csv").read_bytes())
    (tmp_path / "current").symlink_to(tiny_run)
    monkeypatch.chdir(tmp_path)
    update, export, score = commands()
    assert main(update) == 0
    assert open_folder(tmp_path / "run-2026-11-30", "run").content["update"]["new_rows"] == 60
    for words in (export, score):
        assert main([words[0], "--help"]) == 0
        known = capsys.readouterr().out
        assert all(word in known for word in words if word.startswith("--"))
