import pytest

from flr_export.bundle import Bundle
from flr_model.artifacts import Manifest
from flr_model.errors import ArtifactError
from tests.builders import reseal
from tests.export.toy import write_toy_bundle


@pytest.fixture
def folder(tmp_path):
    return write_toy_bundle(tmp_path / "bundle")


def test_bundle_tells_the_model_and_its_graphs(folder):
    bundle = Bundle.open(folder)
    assert (bundle.model.encoding, bundle.model.n_factors, bundle.model.max_history) == ("items", 2, 3)
    assert bundle.reader == folder / "reader.onnx"


def test_bundle_uses_the_graph_that_the_manifest_chose(tmp_path):
    folder = write_toy_bundle(tmp_path / "bundle", files={"reader": "reader.int8.onnx"})
    (folder / "reader.int8.onnx").write_bytes((folder / "reader.onnx").read_bytes())
    assert Bundle.open(folder).reader == folder / "reader.int8.onnx"


@pytest.mark.parametrize("name", ["reader.int8.onnx", "../bundle/reader.onnx", 3])
def test_graph_outside_the_folder_or_missing_is_refused(tmp_path, name):
    folder = write_toy_bundle(tmp_path / "bundle", files={"reader": name})
    with pytest.raises(ArtifactError, match="which is not there"):
        Bundle.open(folder)


def test_incomplete_bundle_names_what_is_missing(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match=r"lacks tokenizer\.json"):
        Bundle.open(folder)


def test_every_reader_of_titles_has_its_files(folder):
    """Also where the manifest does not list them: they are opened as late as the first new title comes."""
    model = {"n_factors": 2, "item_readers": "backbone,encoder"}
    reseal(folder, settings={"model": model})
    with pytest.raises(ArtifactError, match=r"lacks item_encoder_1\.onnx, item_tokenizer_1\.json"):
        Bundle.open(folder)
    for name in ("item_encoder_1.onnx", "item_tokenizer_1.json"):
        (folder / name).write_bytes(b"-")
    reseal(folder)
    assert Bundle.open(folder).model.readers == ("backbone", "encoder")
    (folder / "item_tokenizer_1.json").unlink()
    with pytest.raises(ArtifactError, match=r"lacks item_tokenizer_1\.json"):
        Bundle.open(folder)


def test_folder_of_another_kind_is_refused(folder):
    Manifest("dataset").write(folder)
    with pytest.raises(ArtifactError, match="expected a bundle, got a dataset"):
        Bundle.open(folder)


@pytest.mark.parametrize("settings", [{}, {"model": {"n_factors": -1}}, {"model": {"nonsense": 1}}])
def test_manifest_without_a_usable_model_is_refused(folder, settings):
    reseal(folder, settings=settings)
    with pytest.raises(ArtifactError, match=r"no usable \[model\] settings"):
        Bundle.open(folder)
