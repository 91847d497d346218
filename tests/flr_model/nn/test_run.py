import shutil

import numpy as np
import pytest
import torch

from flr_model.artifacts import RUN
from flr_model.config import AlignConfig
from flr_model.errors import ArtifactError
from flr_model.nn.backbone import load_backbone
from flr_model.nn.run import load_run
from flr_model.training.grpo import align
from flr_model.training.sft import train
from tests.builders import reseal, tiny_model, tiny_train

pytestmark = pytest.mark.fault("damaged")


@pytest.fixture
def run(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.mark.parametrize("name", RUN.files)
@pytest.mark.parametrize("size", [0, 100])
def test_a_file_that_is_cut_short_is_named(run, name, size):
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: min(size, len(content) - 1)])
    with pytest.raises(ArtifactError, match=f"{name} is damaged") as caught:
        load_run(run)
    assert "flr train" in caught.value.hint


@pytest.mark.parametrize("name", ["head.safetensors", "items.parquet", "item_vectors.npy", "evidence.npz"])
def test_a_file_that_cannot_be_read_is_named_even_if_the_manifest_agrees_with_it(run, name):
    content = (run / name).read_bytes()
    for damaged in (b"", content[: len(content) // 3]):
        (run / name).write_bytes(damaged)
        reseal(run)
        with pytest.raises(ArtifactError, match=f"{name} cannot be read"):
            load_run(run)


def test_vectors_that_do_not_fit_are_refused_before_memory_is_taken(run):
    vectors = np.load(run / "item_vectors.npy")
    for wrong, message in [
        (vectors[:-1], r"has 60 items, but item vectors of 59"),
        (vectors[:, :-1], r"item_vectors\.npy does not fit config\.toml"),
    ]:
        np.save(run / "item_vectors.npy", wrong)
        reseal(run)
        with pytest.raises(ArtifactError, match=message):
            load_run(run)
    header = (run / "item_vectors.npy").read_bytes()[:128].replace(b"(60, 15)", b"(9999999999, 15)", 1)
    (run / "item_vectors.npy").write_bytes(header.replace(b" " * 8 + b"\n", b"\n"))
    reseal(run)
    with pytest.raises(ArtifactError, match=r"item_vectors\.npy cannot be read"):
        load_run(run)


@pytest.mark.parametrize("sealed", [False, True])
def test_a_sentence_encoder_that_is_damaged_or_gone_is_named(
    tiny_dataset, tiny_backbone, tiny_sentence_encoder, tmp_path, sealed
):
    whole, run = tmp_path / "whole", tmp_path / "run"
    model = tiny_model(tiny_backbone, item_readers=f"backbone,{tiny_sentence_encoder}")
    train(tiny_dataset, whole, model=model, train=tiny_train(max_steps=1))
    for name in ("config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"):
        shutil.copytree(whole, run)
        path = run / "item_reader_1" / name
        content = path.read_bytes()
        for damaged in (None, b"", content[: len(content) // 2]):
            path.unlink(missing_ok=True)  # not written into: it may be the encoder's own file
            if damaged is not None:
                path.write_bytes(damaged)
            if sealed:
                reseal(run)
            with pytest.raises(ArtifactError, match="item_reader_1"):
                load_run(run)
        shutil.rmtree(run)


def test_a_run_that_writes_titles_needs_their_tree(tiny_title_run, tmp_path):
    run = shutil.copytree(tiny_title_run, tmp_path / "run")
    (run / "title_tree.npz").unlink()
    reseal(run)
    with pytest.raises(ArtifactError, match=r"lacks title_tree\.npz"):
        load_run(run)


def test_unchanged_weights_lie_on_the_disk_once(tiny_dataset, tiny_backbone, tiny_run, tmp_path):
    """A run shares the language model of the titles with where it came from, and an aligned run also the trunk."""
    source = shutil.copytree(tiny_backbone, tmp_path / "backbone")
    weights = source / "model.safetensors"
    weights.chmod(source.stat().st_mode & 0o666)
    run, aligned = tmp_path / "run", tmp_path / "aligned"
    train(tiny_dataset, run, model=tiny_model(source, layers=1), train=tiny_train(max_steps=1))
    align(run, aligned, align=AlignConfig(max_steps=1))
    item_backbones = [folder / "item_backbone/model.safetensors" for folder in (run, aligned)]
    assert all(weights.samefile(path) for path in item_backbones)
    trunks = [folder / "backbone/model.safetensors" for folder in (run, aligned)]
    assert trunks[0].samefile(trunks[1])
    assert not trunks[0].samefile(weights)
    first = load_run(aligned).item_encoder.readers[0].lm.state_dict()
    assert all(
        torch.equal(value, first[name]) for name, value in load_run(run).item_encoder.readers[0].lm.state_dict().items()
    )
    before = weights.read_bytes()
    moved = shutil.copytree(aligned, tmp_path / "moved")
    shutil.rmtree(run)
    assert load_run(moved)
    assert weights.read_bytes() == before


def test_a_tuned_trunk_is_written_anew(tiny_dataset, tiny_backbone, tmp_path):
    settings = tiny_train(max_steps=1, tuning="full", backbone_learning_rate=1e-2, warmup_steps=0)
    train(tiny_dataset, tmp_path / "run", model=tiny_model(tiny_backbone), train=settings)
    tuned, known = (load_backbone(str(f)).lm.state_dict() for f in (tmp_path / "run" / "backbone", tiny_backbone))
    assert any(not torch.equal(value, known[name]) for name, value in tuned.items())
