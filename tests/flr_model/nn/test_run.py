import shutil

import numpy as np
import pytest

from flr_model.artifacts import RUN
from flr_model.errors import ArtifactError
from flr_model.nn.run import load_run
from tests.builders import reseal

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


def test_a_run_that_writes_titles_needs_their_tree(tiny_title_run, tmp_path):
    run = shutil.copytree(tiny_title_run, tmp_path / "run")
    (run / "title_tree.npz").unlink()
    reseal(run)
    with pytest.raises(ArtifactError, match=r"lacks title_tree\.npz"):
        load_run(run)
