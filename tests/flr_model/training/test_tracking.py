import importlib.machinery
import os
import sys
from typing import ClassVar

import pytest

from flr_model.config import AlignConfig, TrainConfig
from flr_model.errors import ConfigError, MissingExtraError
from flr_model.training.sft import train
from flr_model.training.tracking import Tracking
from tests.builders import tiny_model, tiny_train


class Writer:
    """What transformers uses of TensorBoard's writer: keeps the figures."""

    written: ClassVar[dict] = {}

    def __init__(self, log_dir):
        self.figures = Writer.written.setdefault(log_dir, {})

    def add_text(self, *_):
        pass

    def add_scalar(self, name, value, step):
        self.figures.setdefault(name, []).append((step, value))

    def flush(self):
        pass

    def close(self):
        pass


@pytest.fixture
def tensorboard(monkeypatch):
    """TensorBoard, or in its place a module that has its writer."""
    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    found = type(sys)("tensorboard")
    found.__spec__ = importlib.machinery.ModuleSpec("tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard", found)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(Writer, "written", {})
    return Writer.written


def test_losses_and_validation_of_every_stage_go_to_tensorboard(tmp_path, tiny_dataset, tiny_backbone, tensorboard):
    settings = tiny_train(tuning="sequences", sequence_epochs=1, epochs=2, report_to="tensorboard")
    report = train(tiny_dataset, tmp_path / "run", model=tiny_model(tiny_backbone), train=settings)
    logs = tmp_path / "run.logs"
    assert tensorboard.keys() == {str(logs / "sequences"), str(logs / "head")}
    head = tensorboard[str(logs / "head")]
    assert [step for step, _ in head["eval/NDCG@10"]][-1] == report.steps
    assert max(value for _, value in head["eval/NDCG@10"]) == pytest.approx(report.valid["NDCG@10"], abs=0.01)
    assert head["train/train_loss"]


def test_a_library_that_is_missing_is_named_before_any_work(tmp_path, tiny_dataset, tiny_backbone, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="'mlflow', which is not installed") as caught:
        train(tiny_dataset, tmp_path / "run", model=tiny_model(tiny_backbone), train=TrainConfig(report_to="mlflow"))
    assert caught.value.hint == "pip install mlflow"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("config", [TrainConfig, AlignConfig])
def test_another_library_is_refused(config):
    with pytest.raises(ConfigError, match="--report-to is 'comet', not one of none, tensorboard, mlflow, wandb"):
        config(report_to="comet")


def test_wandb_is_offline_unless_the_person_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setenv("WANDB_MODE", "online")  # and is put back as it was
    Tracking.of("wandb", tmp_path / "run")
    assert os.environ["WANDB_MODE"] == "online"
    monkeypatch.delenv("WANDB_MODE")
    Tracking.of("wandb", tmp_path / "run")
    assert os.environ["WANDB_MODE"] == "offline"
