import json

import pytest

from flr_model.artifacts import (
    DATASET,
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    check_free,
    fingerprint,
    open_folder,
    writing_file,
    writing_folder,
)
from flr_model.errors import ArtifactError


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in DATASET.files:
        (folder / name).write_text(name)
    Manifest("dataset", {"prepare": {"k_core": 5}}, {"rows": 3}, "raw").write(folder)
    return folder


def write_half_a_folder(path):
    with writing_folder(path, overwrite=True) as folder:
        (folder / "half").write_text("")
        raise RuntimeError


def write_half_a_file(path):
    with writing_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError


def test_a_manifest_survives_writing_and_reading(dataset):
    assert open_folder(dataset, "dataset") == Manifest("dataset", {"prepare": {"k_core": 5}}, {"rows": 3}, "raw")
    assert open_folder(dataset, "dataset").kind == "dataset"


def test_a_folder_of_another_kind_is_refused_with_the_command_that_makes_the_right_one(dataset):
    with pytest.raises(ArtifactError, match="is a dataset, this command wants a run or bundle") as caught:
        open_folder(dataset, "run", "bundle")
    assert "flr train" in caught.value.hint


def test_missing_files_are_named_with_the_command_that_writes_them(dataset):
    (dataset / "valid.parquet").unlink()
    (dataset / "test.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"lacks valid\.parquet, test\.parquet") as caught:
        open_folder(dataset, "dataset")
    assert "flr prepare" in caught.value.hint


def test_a_newer_format_is_refused(dataset):
    body = json.loads((dataset / MANIFEST).read_text())
    (dataset / MANIFEST).write_text(json.dumps({**body, "format_version": FORMAT_VERSION + 1}))
    with pytest.raises(ArtifactError, match="newer flr"):
        open_folder(dataset, "dataset")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "other"}'])
def test_a_folder_with_a_broken_manifest_is_not_ours(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match="not a folder of flr"):
        open_folder(tmp_path, "dataset")


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="is not a folder"):
        open_folder(tmp_path / "gone", "dataset")


def test_an_existing_result_is_not_replaced_unasked(dataset):
    with pytest.raises(ArtifactError, match="exists already") as caught, writing_folder(dataset):
        pass
    assert "--overwrite" in caught.value.hint
    check_free(dataset, overwrite=True)


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ArtifactError, match="left alone"):
        check_free(tmp_path, overwrite=True)


def test_writing_folder_replaces_the_old_result_whole(dataset):
    with writing_folder(dataset, overwrite=True) as folder:
        (folder / "new").write_text("")
        assert (dataset / MANIFEST).exists()
    assert [path.name for path in dataset.iterdir()] == ["new"]
    assert [path.name for path in dataset.parent.iterdir()] == ["data"]


def test_a_failed_block_leaves_the_old_result_and_no_litter(dataset):
    before = sorted(path.name for path in dataset.iterdir())
    with pytest.raises(RuntimeError):
        write_half_a_folder(dataset)
    assert sorted(path.name for path in dataset.iterdir()) == before
    assert [path.name for path in dataset.parent.iterdir()] == ["data"]


def test_writing_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    with pytest.raises(RuntimeError):
        write_half_a_file(path)
    assert list(path.parent.iterdir()) == []
    with writing_file(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_fingerprints_follow_the_content(dataset, tmp_path):
    before = fingerprint(dataset, DATASET.files)
    dataset.rename(tmp_path / "moved")
    assert fingerprint(tmp_path / "moved", DATASET.files) == before
    (tmp_path / "moved" / "train.parquet").write_text("changed")
    assert fingerprint(tmp_path / "moved", DATASET.files) != before
