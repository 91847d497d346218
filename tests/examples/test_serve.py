"""The web service of examples/serve.py, asked as a client would."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from tests.export.toy import write_toy_bundle

EXAMPLE = Path(__file__).parents[2] / "examples" / "serve.py"


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setenv("FLR_BUNDLE", str(write_toy_bundle(tmp_path / "bundle")))
    spec = importlib.util.spec_from_file_location("serve", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "serve", module)
    spec.loader.exec_module(module)
    return TestClient(module.app)


def test_a_history_is_answered_with_items(client):
    answer = client.post("/recommend", json={"items": ["a", "new"], "k": 2, "because": True, "exclude": ["e"]})
    assert answer.status_code == 200
    recs = answer.json()
    assert [rec["item_id"] for rec in recs] == ["c", "f"]
    assert recs[1]["because_item_id"] == "a"


@pytest.mark.parametrize(
    ("question", "said"),
    [({"items": ["new"]}, "none of its 1 items is known"), ({"items": []}, "items"), ({"items": ["a"], "k": 0}, "k")],
)
def test_a_question_that_cannot_be_answered_says_why(client, question, said):
    answer = client.post("/recommend", json=question)
    assert answer.status_code == 422
    assert said in answer.text
