import json
import os

import pytest

from flr_model import checksums
from flr_model.artifacts import (
    BUNDLE,
    DATASET,
    FORMAT_VERSION,
    MANIFEST,
    RUN,
    Manifest,
    fingerprint,
    kind_of,
    open_folder,
    reading,
)
from flr_model.errors import ArtifactError, DataError
from tests.builders import reseal

pytestmark = pytest.mark.fault("damaged")


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in DATASET.files:
        (folder / name).write_text(name)
    Manifest("dataset", {"prepare": {"k_core": 5}}, {"rows": 3}, "raw").write(folder)
    return folder


def rewrite(folder, **changes):
    """Change the manifest as a person with an editor would, without its checksum."""
    body = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**body, **changes}))


def test_a_manifest_survives_writing_and_reading(dataset):
    manifest = open_folder(dataset, "dataset")
    assert manifest == Manifest("dataset", {"prepare": {"k_core": 5}}, {"rows": 3}, "raw")
    assert manifest.files.keys() == {*DATASET.files}
    assert manifest.files["valid.parquet"]["bytes"] == len("valid.parquet")


def test_a_folder_of_another_kind_is_refused_with_the_command_that_makes_the_right_one(dataset):
    with pytest.raises(ArtifactError, match="expected a run or bundle, got a dataset") as caught:
        open_folder(dataset, "run", "bundle")
    assert caught.value.hint == f"go on with `flr train {dataset} --out run`"


def test_the_way_to_the_wanted_kind_is_said_with_the_own_paths(dataset, tmp_path):
    with pytest.raises(ArtifactError, match="expected a bundle, got a dataset") as caught:
        open_folder(dataset, "bundle")
    way = f"go on with `flr train {dataset} --out run`, then `flr export run --onnx --out bundle`"
    assert caught.value.hint == way
    run = tmp_path / "my run"
    run.mkdir()
    Manifest("run", content={"dataset": str(dataset)}, source=str(dataset)).write(run)
    with pytest.raises(ArtifactError, match="expected a bundle, got a run") as caught:
        open_folder(run, "bundle")
    assert caught.value.hint == f"go on with `flr export '{run}' --onnx --out bundle`"
    with pytest.raises(ArtifactError, match="expected a dataset, got a run") as caught:
        open_folder(run, "dataset")
    assert f"it was made of {dataset}" in caught.value.hint


def test_missing_files_are_named_with_the_command_that_writes_them(dataset):
    (dataset / "valid.parquet").unlink()
    (dataset / "test.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"lacks valid\.parquet, test\.parquet") as caught:
        open_folder(dataset, "dataset")
    assert "flr prepare" in caught.value.hint


def test_a_file_that_only_the_manifest_names_is_required_too(dataset):
    (dataset / "report.json").write_text("{}")
    reseal(dataset)
    (dataset / "report.json").unlink()
    with pytest.raises(ArtifactError, match=r"lacks report\.json"):
        open_folder(dataset, "dataset")


@pytest.mark.parametrize(("layout", "name"), [(RUN, "title_tree.npz"), (BUNDLE, "title_head.npy")])
def test_the_title_decoder_needs_its_own_files(tmp_path, layout, name):
    for file in layout.files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    Manifest(layout.kind, {"model": {"decoder": "catalog"}}).write(tmp_path)
    open_folder(tmp_path, layout.kind)
    Manifest(layout.kind, {"model": {"decoder": "title"}}).write(tmp_path)
    with pytest.raises(ArtifactError, match=f"lacks .*{name}"):
        open_folder(tmp_path, layout.kind)


@pytest.mark.parametrize(("version", "message"), [(FORMAT_VERSION + 1, "newer flr"), (1, "earlier flr")])
def test_another_format_is_refused(dataset, version, message):
    rewrite(dataset, format_version=version)
    with pytest.raises(ArtifactError, match=message):
        open_folder(dataset, "dataset")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 100_000, '{"kind": "other"}', '{"kind": "run"}', '{"kind": [], "format_version": 2}']
)
def test_a_folder_with_a_broken_manifest_is_not_ours(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    assert kind_of(tmp_path) is None
    with pytest.raises(ArtifactError, match="not a folder of flr"):
        open_folder(tmp_path, "dataset")


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="is not a folder"):
        open_folder(tmp_path / "gone", "dataset")


@pytest.mark.parametrize("name", DATASET.files)
def test_every_flipped_bit_of_a_file_is_noticed(dataset, name, record_property):
    right = (dataset / name).read_bytes()
    for byte in range(len(right)):
        for bit in range(8):
            wrong = bytearray(right)
            wrong[byte] ^= 1 << bit
            (dataset / name).write_bytes(wrong)
            with pytest.raises(ArtifactError, match=rf"{name} is damaged .* SHA-256"):
                open_folder(dataset, "dataset")
    record_property("tried", 8 * len(right))


@pytest.mark.parametrize("size", [0, 3, 40])
def test_a_file_of_another_size_is_damaged_and_not_even_read(dataset, monkeypatch, size):
    monkeypatch.setattr("flr_model.artifacts.has_sha256", lambda path, digest: path.name != "train.parquet")
    os.truncate(dataset / "train.parquet", size)
    with pytest.raises(ArtifactError, match=rf"train\.parquet is damaged .* {size} bytes for 13"):
        open_folder(dataset, "dataset")


def test_a_flipped_bit_of_any_byte_of_the_manifest_is_noticed(dataset, record_property):
    path = dataset / MANIFEST
    right = path.read_bytes()
    for byte in range(len(right)):
        wrong = bytearray(right)
        wrong[byte] ^= 1 << byte % 8
        path.write_bytes(wrong)
        try:
            found = open_folder(dataset, "dataset")
        except ArtifactError:
            continue
        path.write_bytes(right)  # white space became other white space
        assert (found, found.files) == (open_folder(dataset, "dataset"), open_folder(dataset, "dataset").files)
    record_property("tried", len(right))


@pytest.mark.parametrize("field", ["settings", "content", "source", "files", "format_version", "sha256"])
def test_a_manifest_that_lacks_a_field_is_refused(dataset, field):
    body = json.loads((dataset / MANIFEST).read_text())
    del body[field]
    (dataset / MANIFEST).write_text(json.dumps(body))
    with pytest.raises(ArtifactError, match=MANIFEST):
        open_folder(dataset, "dataset")


def test_a_large_file_that_was_right_is_not_read_again_until_it_changes(dataset, monkeypatch):
    read = []
    monkeypatch.setattr(checksums, "LARGE", 5)
    monkeypatch.setattr(checksums, "SETTLED_SECONDS", -1.0)
    actual = checksums.sha256
    monkeypatch.setattr(checksums, "sha256", lambda path: read.append(path.name) or actual(path))
    for _ in range(2):
        monkeypatch.setattr(checksums, "_right", set())  # as in another process
        open_folder(dataset, "dataset")
    assert sorted(read) == sorted(DATASET.files)
    (dataset / "test.parquet").write_text("TEST.parquet")
    with pytest.raises(ArtifactError, match=r"test\.parquet is damaged"):
        open_folder(dataset, "dataset")
    assert read[-1] == "test.parquet"


def test_a_file_that_has_just_changed_is_read_by_every_check(dataset, monkeypatch):
    monkeypatch.setattr(checksums, "LARGE", 5)
    open_folder(dataset, "dataset")
    status = (dataset / "test.parquet").stat()
    (dataset / "test.parquet").write_text("TEST.parquet")
    os.utime(dataset / "test.parquet", ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ArtifactError, match="damaged"):
        open_folder(dataset, "dataset")


def test_a_cache_that_cannot_be_written_costs_time_only(dataset, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLR_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(checksums, "LARGE", 5)
    monkeypatch.setattr(checksums, "SETTLED_SECONDS", -1.0)
    open_folder(dataset, "dataset")


def test_whatever_a_parser_raises_names_the_file(tmp_path):
    path = tmp_path / "x.npz"
    for error in (ValueError("bad magic\nmore"), SystemError(), KeyError("x")):
        with pytest.raises(ArtifactError, match=r"x\.npz cannot be read") as caught, reading(path, "again"):
            raise error
        assert caught.value.hint == "again"
    with pytest.raises(ArtifactError, match="more memory"), reading(path, "again"):
        raise MemoryError
    with pytest.raises(DataError), reading(path, "again"):
        raise DataError("says enough")


def test_fingerprints_follow_the_content(dataset, tmp_path):
    before = fingerprint(dataset, DATASET.files)
    dataset.rename(tmp_path / "moved")
    assert fingerprint(tmp_path / "moved", DATASET.files) == before
    (tmp_path / "moved" / "train.parquet").write_text("changed")
    assert fingerprint(tmp_path / "moved", DATASET.files) != before
