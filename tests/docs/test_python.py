"""The examples of docs/python.md run as they stand, on tiny files and a tiny backbone."""

import functools
import re
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import flr
from tests.builders import tiny_model

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def examples(section):
    """The Python blocks of a section: indented lines, but for commands of the shell."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", text[1], re.MULTILINE)
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in blocks if "uvicorn" not in block]


def test_the_examples_run(tmp_path, monkeypatch, tiny_raw, tiny_backbone):
    for name in ("interactions", "items"):
        frame = pd.read_csv(tiny_raw / f"{name}.csv")
        frame["item_id"] = frame["item_id"].str.replace("i", "item")
        frame[frame["item_id"] != "item9"].to_csv(tmp_path / f"{name}.csv", index=False)
    later = pd.read_csv(tmp_path / "interactions.csv").tail(60)
    later["timestamp"] += 30 * 86_400
    later.to_csv(tmp_path / "interactions-of-this-week.csv", index=False)
    monkeypatch.chdir(tmp_path)
    any_loss = flr.UpdateConfig(max_loss=1.0)  # a tiny run may get worse
    monkeypatch.setattr(flr, "update", functools.partial(flr.update, config=any_loss))
    monkeypatch.setattr(flr, "ModelConfig", lambda **settings: tiny_model(tiny_backbone, **settings))
    names = {"flr": flr, "pd": pd}
    stages, recommending = examples("The stages"), examples("Recommend")
    assert (len(stages), len(recommending)) == (1, 3)
    for source in [*stages, *recommending]:
        exec(compile(source, PAGE.name, "exec"), names)
    recs = pd.read_csv("recs.csv")
    assert recs.groupby("user_id").size().max() == 20
    assert "item9" in names["wider"].items()["item_id"].tolist()
