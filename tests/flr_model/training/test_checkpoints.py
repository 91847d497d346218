import json
import logging

import pytest
from transformers.trainer_callback import TrainerState

from flr_model.training.checkpoints import COMPLETE, STATE, fault, newest_whole, seal

pytestmark = pytest.mark.fault("damaged")


def save(folder, step, best=None):
    """A checkpoint of three files; the path of its best one is that of another machine."""
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir()
    for name in ("model.safetensors", "optimizer.pt"):
        (checkpoint / name).write_text(f"{name} of {step}")
    named = None if best is None else f"/elsewhere/checkpoint-{best}"
    TrainerState(global_step=step, best_model_checkpoint=named).save_to_json(str(checkpoint / STATE))
    seal(checkpoint)
    return checkpoint


def test_the_newest_by_number_is_taken_and_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for step in (2, 10, 9):
        save(tmp_path, step, best=2)
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-10"
    assert f"going on from {tmp_path / 'checkpoint-10'}" in caplog.text


@pytest.mark.parametrize("lost", ["model.safetensors", "optimizer.pt", STATE, COMPLETE])
def test_a_torn_one_is_passed_over_said_and_removed(tmp_path, caplog, lost):
    older, torn = save(tmp_path, 1), save(tmp_path, 2)
    (torn / lost).unlink()
    assert newest_whole(tmp_path) == older
    assert str(torn) in caplog.text
    assert not torn.exists()


@pytest.mark.parametrize("content", ["", "optim", "optimizer.pt of 3"])
def test_a_damaged_one_is_passed_over(tmp_path, caplog, content):
    older, damaged = save(tmp_path, 1), save(tmp_path, 2)
    (damaged / "optimizer.pt").write_text(content)
    assert newest_whole(tmp_path) == older
    assert "has a damaged optimizer.pt" in caplog.text


def test_one_whose_best_is_gone_is_passed_over(tmp_path, caplog):
    first, _ = save(tmp_path, 1), save(tmp_path, 3, best=2)
    assert newest_whole(tmp_path) == first
    assert "names the best checkpoint checkpoint-2, which is gone" in caplog.text


def test_without_a_whole_one_training_starts_anew_and_that_is_said(tmp_path, caplog):
    (save(tmp_path, 1) / "optimizer.pt").unlink()
    assert newest_whole(tmp_path) is None
    assert "starting this stage from its beginning" in caplog.text


def test_no_checkpoints_are_nothing_to_speak_of(tmp_path, caplog):
    (tmp_path / "checkpoint-best").mkdir()
    assert newest_whole(tmp_path) is newest_whole(tmp_path / "gone") is None
    assert not caplog.text


@pytest.mark.parametrize("text", ["", "[]", "3", "{"])
def test_a_damaged_list_of_files_is_a_fault(tmp_path, text):
    checkpoint = save(tmp_path, 1)
    (checkpoint / COMPLETE).write_text(text)
    assert fault(checkpoint)
    (checkpoint / COMPLETE).write_text(json.dumps({"../../etc/passwd": ""}))
    assert fault(checkpoint)
