"""The notebook's cells run in order; the backbone is a tiny one, since the real one has to be fetched."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import flr
from tests.builders import tiny_model

NOTEBOOK = Path(__file__).parents[2] / "docs" / "quickstart.ipynb"


def cells(kind):
    body = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in body["cells"] if cell["cell_type"] == kind]


def test_the_notebook_runs(tmp_path, monkeypatch, tiny_backbone):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(flr, "ModelConfig", lambda **settings: tiny_model(tiny_backbone, **settings))
    names = {}
    for source in cells("code"):
        exec(compile(source, NOTEBOOK.name, "exec"), names)
    recs = names["bundle"].recommend(["jazz-1", "jazz-2"], k=5, because=True)
    assert len(recs) == 5
    assert {"factor_1", "because_title"} <= set(recs.columns)
    assert "jazz-10" in names["wider"].items()["item_id"].tolist()


def test_the_notebook_is_saved_without_outputs():
    body = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert all(not cell["outputs"] for cell in body["cells"] if cell["cell_type"] == "code")
