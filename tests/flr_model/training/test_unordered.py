"""Interactions of one moment whose order `flr prepare` drew: from the dataset through training to a loaded run."""

import pytest

from flr_model.config import PrepareConfig
from flr_model.data.dataset import Dataset
from flr_model.data.prepare import Sources, prepare
from flr_model.nn.run import load_run
from flr_model.training.setup import trainable
from flr_model.training.sft import train
from tests.builders import tiny_model, tiny_train, write_raw_files


@pytest.mark.parametrize("order", ["random", "file"])
def test_a_run_knows_whether_moments_have_an_order(tmp_path, tiny_backbone, order):
    raw = write_raw_files(tmp_path, users=60)
    sources = Sources(interactions=raw / "interactions.csv", items=raw / "items.csv")
    prepare(sources, tmp_path / "data", PrepareConfig(tie_order=order))
    train(tmp_path / "data", tmp_path / "run", model=tiny_model(tiny_backbone), train=tiny_train(epochs=1))
    run = load_run(tmp_path / "run")
    unordered = order == "random"
    assert run.evidence.unordered == run.model.reasoner.recency.unordered == unordered
    again = trainable(run, Dataset.open(tmp_path / "data").rows("train"))  # what alignment and updates start from
    assert again.head.evidence.events.unordered == unordered
