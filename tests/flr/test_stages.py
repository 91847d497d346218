"""The stages as functions do what the commands do; frames are taken where files are."""

import pandas as pd
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import flr
from flr_model.artifacts import open_folder
from tests.builders import tiny_model, tiny_train


def test_frames_become_a_dataset_and_it_a_run(tmp_path, tiny_raw, tiny_backbone):
    interactions, items = (pd.read_csv(tiny_raw / f"{name}.csv") for name in ("interactions", "items"))
    data, run = (str(tmp_path / name) for name in ("data", "run"))
    report = flr.prepare(data, interactions=interactions, items=items, config=flr.PrepareConfig(max_history=5))
    assert report.items == 60
    trained = flr.train(data, run, model=tiny_model(tiny_backbone), train=tiny_train(max_steps=1))
    assert trained.valid == open_folder(tmp_path / "run", "run").content["report"]["valid"]


def test_a_run_is_aligned_measured_and_opened(tmp_path, tiny_run):
    assert flr.align(tiny_run, tmp_path / "aligned", config=flr.AlignConfig(max_steps=1)).kept in ("aligned", "sft")
    report = flr.evaluate(tiny_run, config=flr.EvalConfig(max_rows=20, bootstrap=0), out=tmp_path / "result")
    assert report.as_dict()["protocol"]["rows"] == len(pd.read_parquet(tmp_path / "result" / "ranks.parquet")) == 20
    recs = flr.load(tiny_run).recommend(["i1", "i2"], k=3)
    assert recs["rank"].tolist() == [1, 2, 3]
    assert not {"i1", "i2"} & set(recs["item_id"])


def test_settings_beside_a_refit_are_refused(tmp_path):
    with pytest.raises(flr.ConfigError, match="no effect with refit"):
        flr.train("data", tmp_path / "run", refit="old", train=flr.TrainConfig(epochs=7))
    with pytest.raises(flr.ConfigError, match="no effect with refit"):
        flr.train("data", tmp_path / "run", refit="old", model=flr.ModelConfig())
    with pytest.raises(flr.ConfigError, match="no effect with refit"):
        flr.train("data", tmp_path / "run", refit="old", train=flr.TrainConfig(epochs=7, report_to="wandb"))


@pytest.mark.parametrize("users", [["u", 1], [2**70, 1], [1j, 2j], [object(), object()]])
def test_a_frame_of_mixed_ids_says_what_to_do(tmp_path, users):
    frame = pd.DataFrame({"user_id": users, "item_id": ["a", "b"], "timestamp": [1, 2]})
    with pytest.raises(flr.DataError, match="frame of interactions has a column") as caught:
        flr.prepare(tmp_path / "data", interactions=frame)
    assert "astype(str)" in caught.value.hint
    assert not (tmp_path / "data").exists()


def test_a_run_goes_on_with_a_frame(tmp_path, tiny_raw, tiny_run):
    week = pd.read_csv(tiny_raw / "interactions.csv").tail(60)
    week["timestamp"] += 366 * 86_400
    report = flr.update(tiny_run, week, tmp_path / "run2", config=flr.UpdateConfig(max_rows=32, max_loss=1.0))
    assert report.new_rows == 60
    assert flr.load(tmp_path / "run2").recommend(["i1", "i2"], k=3)["rank"].tolist() == [1, 2, 3]
