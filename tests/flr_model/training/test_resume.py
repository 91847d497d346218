import json
import math
from contextlib import contextmanager

import pytest

from flr_model.artifacts import RUN
from flr_model.config import TitleConfig
from flr_model.errors import ArtifactError, ConfigError
from flr_model.training.sft import train
from flr_model.training.trainer import StageTrainer
from flr_model.writing import claim
from tests.builders import prepare_dataset, tiny_model, tiny_train, write_raw_files

pytestmark = pytest.mark.fault("killed")


class Interrupted(Exception):
    """Stands for a killed process."""


class StopAfter:
    """Progress that raises after a number of training samples of one kind."""

    def __init__(self, samples, kind="rows"):
        self.left = samples
        self.kind = kind
        self.unit = None
        self.steps, self.steps_of = 0, 64

    @contextmanager
    def task(self, total, unit):
        before, self.unit = self.unit, unit
        yield self
        self.unit = before

    def advance(self, amount, **figures):
        if self.unit == self.kind:
            self.left -= amount
            self.steps += amount == self.steps_of  # a resumed training reports what lies behind it at once
            if self.left < 0:
                raise Interrupted


@pytest.fixture
def fit(tiny_dataset, tiny_backbone):
    def fit(out, *, data=tiny_dataset, settings=None, model=None, **options):
        # Sampled negatives and dropout draw random numbers in every step.
        chosen = {"epochs": 3, "full_softmax_items": 10, "negatives": 20, **(settings or {})}
        return train(data, out, model=tiny_model(tiny_backbone, **(model or {})), train=tiny_train(**chosen), **options)

    return fit


@pytest.fixture
def interrupt(fit, tmp_path):
    """Start a training that is killed in the middle of its second epoch, and return where it should have gone."""

    def interrupt(**settings):
        with pytest.raises(Interrupted):
            fit(tmp_path / "run", settings=settings, progress=StopAfter(1.5 * 701))
        return tmp_path / "run"

    return interrupt


def report_of(run):
    report = json.loads((run / "manifest.json").read_text())["content"]["report"]
    return {name: value for name, value in report.items() if name not in ("run", "seconds")}


@pytest.mark.parametrize("tuning", ["sequences", "frozen", "lora"])
def test_interrupted_and_resumed_equals_uninterrupted(fit, interrupt, tmp_path, tuning):
    fit(tmp_path / "whole", settings={"tuning": tuning})
    run = interrupt(tuning=tuning)
    rest = StopAfter(math.inf)
    fit(run, settings={"tuning": tuning}, resume=True, progress=rest)
    for name in ("head.safetensors", "backbone/model.safetensors", "evidence.npz", "item_vectors.npy", "config.toml"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert report_of(run) == report_of(tmp_path / "whole")
    assert not list(tmp_path.glob(".*"))


def test_a_training_that_was_killed_while_the_trunk_learned_is_resumed(fit, tmp_path):
    fit(tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit(tmp_path / "run", progress=StopAfter(2.5 * 140, "sequences"))
    rest = StopAfter(math.inf, "sequences")
    fit(tmp_path / "run", resume=True, progress=rest)
    assert report_of(tmp_path / "run") == report_of(tmp_path / "whole")


@pytest.mark.parametrize(
    ("samples", "kind", "left"), [(3 * 60, "titles", 22), (1.5 * 701, "rows", 22), (500, "rows written", 7)]
)
def test_a_training_that_was_killed_while_titles_were_learned_is_resumed(fit, tmp_path, samples, kind, left):
    title = {"decoder": "title", "title": TitleConfig(guidance=1.0)}
    settings = {"epochs": 3, "title_epochs": 4}
    fit(tmp_path / "whole", settings=settings, model=title)
    with pytest.raises(Interrupted):
        fit(tmp_path / "run", settings=settings, model=title, progress=StopAfter(samples, kind))
    rest = StopAfter(math.inf, "rows written")
    rest.steps_of = 32
    fit(tmp_path / "run", settings=settings, model=title, resume=True, progress=rest)
    for name in ("head.safetensors", "writer/model.safetensors", "item_vectors.npy"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert report_of(tmp_path / "run") == report_of(tmp_path / "whole")
    assert rest.steps == left


def test_resuming_goes_on_from_the_last_finished_epoch(fit, interrupt):
    run = interrupt()
    rest = StopAfter(math.inf)
    fit(run, resume=True, progress=rest)
    assert rest.steps == 2 * 11  # of three epochs


def test_resuming_with_other_settings_is_an_error_and_spoils_nothing(fit, interrupt):
    run = interrupt()
    assert not run.exists()
    with pytest.raises(ConfigError, match="begun with other settings") as caught:
        fit(run, settings={"learning_rate": 1e-4}, resume=True)
    assert "--resume" in caught.value.hint
    assert not run.exists()
    fit(run, resume=True)
    assert run.exists()


def test_resuming_with_another_dataset_is_an_error(fit, interrupt, tmp_path):
    run = interrupt()
    other = prepare_dataset(write_raw_files(tmp_path / "raw", seed=1), tmp_path / "other")
    with pytest.raises(ConfigError, match="another dataset"):
        fit(run, data=other, resume=True)
    assert not run.exists()


def test_resuming_where_nothing_was_begun_starts_anew(fit, tmp_path, caplog):
    fit(tmp_path / "run", settings={"max_steps": 1}, resume=True)
    assert "nothing to resume" in caplog.text
    assert (tmp_path / "run").exists()


def test_without_resume_an_interrupted_training_is_begun_anew(fit, interrupt, tmp_path):
    fit(tmp_path / "whole", settings={"max_steps": 2})
    run = interrupt()
    assert fit(run, settings={"max_steps": 2}).steps == 2
    assert report_of(run) == report_of(tmp_path / "whole")


@pytest.mark.fault("damaged")
@pytest.mark.parametrize("lost", ["optimizer.pt", "trainer_state.json", "complete.json"])
def test_a_torn_checkpoint_is_passed_over_for_the_one_before(fit, tmp_path, caplog, lost):
    fit(tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit(tmp_path / "run", progress=StopAfter(2.5 * 701))
    newest = max(tmp_path.glob(".run.checkpoints/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (newest / lost).unlink()
    rest = StopAfter(math.inf)
    fit(tmp_path / "run", resume=True, progress=rest)
    assert rest.steps == 2 * 11  # of three epochs: the second is trained again
    assert str(newest) in caplog.text
    for name in ("head.safetensors", "item_vectors.npy"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.fault("damaged")
def test_a_best_checkpoint_that_is_gone_is_an_error(fit, tmp_path, monkeypatch):
    actual = StageTrainer._load_best_model

    def lose(trainer):
        for path in tmp_path.glob(".run.checkpoints/checkpoint-*/model.safetensors"):
            path.unlink()
        actual(trainer)

    monkeypatch.setattr(StageTrainer, "_load_best_model", lose)
    with pytest.raises(ArtifactError, match=r"the best checkpoint .* lacks model\.safetensors"):
        fit(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.fault("full disk")
@pytest.mark.parametrize(
    "error", [RuntimeError("[enforce fail at inline_container.cc] . file write failed"), OSError(28)]
)
def test_a_checkpoint_that_cannot_be_written_is_said_and_the_training_resumed(fit, tmp_path, monkeypatch, error):
    def full(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("transformers.Trainer._save_optimizer_and_scheduler", full)
        with pytest.raises(ArtifactError, match="a checkpoint could not be written") as caught:
            fit(tmp_path / "run")
    assert "--resume" in caught.value.hint
    fit(tmp_path / "whole")
    fit(tmp_path / "run", resume=True)
    assert report_of(tmp_path / "run") == report_of(tmp_path / "whole")


@pytest.mark.fault("outputs")
def test_a_training_onto_its_own_dataset_backbone_or_refitted_run_is_refused(fit, tiny_run, tiny_dataset, tmp_path):
    for given in ({"data": tiny_dataset}, {"refit": tiny_run}):
        (out,) = given.values()
        with pytest.raises(ConfigError, match="is an input of this command"):
            fit(out, overwrite=True, **given)
    with pytest.raises(ArtifactError, match="is a dataset; a run does not replace it"):
        fit(prepare_dataset(write_raw_files(tmp_path / "raw"), tmp_path / "other"), overwrite=True)


@pytest.mark.fault("two processes")
def test_a_second_training_onto_the_same_run_is_refused_before_it_touches_anything(fit, interrupt, tmp_path):
    run = interrupt()
    begun = sorted(path.name for path in tmp_path.rglob("*"))
    with claim(run, RUN.kind), pytest.raises(ArtifactError, match="another process of flr is writing"):
        fit(run, settings={"seed": 5})
    assert sorted(path.name for path in tmp_path.rglob("*")) == begun
