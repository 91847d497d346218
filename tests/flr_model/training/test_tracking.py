import importlib.machinery
import os
import sys
from types import SimpleNamespace
from typing import ClassVar

import pytest

from flr_cli.app import main
from flr_model.config import AlignConfig, TrainConfig
from flr_model.config_io import read_tables
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


def test_the_figures_of_a_refit_go_where_its_own_call_says(tmp_path, tiny_dataset, tiny_run, tensorboard):
    command = ["train", str(tiny_dataset), "--refit", str(tiny_run), "--out"]
    assert main([*command, str(tmp_path / "again"), "--report-to", "tensorboard"]) == 0
    logs = {str(tmp_path / "again.logs" / stage) for stage in ("sequences", "head")}
    assert tensorboard.keys() == logs
    settings = read_tables(tmp_path / "again" / "config.toml")["train"]
    assert settings["report_to"] == "tensorboard"
    assert settings["batch_size"] == read_tables(tiny_run / "config.toml")["train"]["batch_size"] == 64
    assert main(["train", str(tiny_dataset), "--refit", str(tmp_path / "again"), "--out", str(tmp_path / "quiet")]) == 0
    assert tensorboard.keys() == logs
    assert read_tables(tmp_path / "quiet" / "config.toml")["train"]["report_to"] == "none"


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


class NoPlace(Exception):
    """What MLflow raises."""


def test_a_place_that_mlflow_cannot_use_is_said_before_any_work(tmp_path, tiny_dataset, tiny_backbone, monkeypatch):
    def refuse():
        raise NoPlace("the place is gone\nand more")

    module = type(sys)("mlflow")
    module.__spec__ = importlib.machinery.ModuleSpec("mlflow", None)
    module.MlflowClient, module.exceptions = refuse, SimpleNamespace(MlflowException=NoPlace)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////gone/mlflow.db")
    with pytest.raises(ConfigError, match=r"MLflow at sqlite:////gone/mlflow.db .* cannot be used: the place is gone$"):
        train(tiny_dataset, tmp_path / "run", model=tiny_model(tiny_backbone), train=TrainConfig(report_to="mlflow"))
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_wandb_ends_with_its_stage_also_by_an_error(monkeypatch):
    ended, module = [], type(sys)("wandb")
    module.finish = lambda exit_code=0: ended.append(exit_code)
    monkeypatch.setitem(sys.modules, "wandb", module)
    with Tracking("none").one_run():
        pass
    assert ended == []
    with Tracking("wandb").one_run():
        assert ended == []
    assert ended == [0]
    with pytest.raises(KeyboardInterrupt), Tracking("wandb").one_run():
        raise KeyboardInterrupt
    assert ended == [0, 1]


@pytest.fixture
def two_stages(tmp_path, tiny_dataset, tiny_backbone, monkeypatch):
    """Trains in two stages in a folder of its own, and returns the report."""
    monkeypatch.chdir(tmp_path)

    def run(library):
        settings = tiny_train(tuning="sequences", sequence_epochs=1, epochs=2, report_to=library)
        return train(tiny_dataset, tmp_path / "run", model=tiny_model(tiny_backbone), train=settings)

    return run


def test_mlflow_itself_has_a_run_for_each_stage(two_stages, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    report = two_stages("mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = {run.info.run_name: run for run in client.search_runs(["0"])}
    assert runs.keys() == {"run-sequences", "run-head"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    found = client.get_metric_history(runs["run-head"].info.run_id, "eval_NDCG_10")
    assert max(metric.value for metric in found) == pytest.approx(report.valid["NDCG@10"], abs=0.01)
    assert float(runs["run-head"].data.params["learning_rate"]) == 5e-3


def test_wandb_itself_has_a_run_for_each_stage_offline(two_stages, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    two_stages("wandb")
    assert len([*(tmp_path / "wandb").glob("offline-run-*")]) == 2
