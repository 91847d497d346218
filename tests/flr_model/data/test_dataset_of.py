import numpy as np
import pytest

from flr_model.artifacts import Manifest
from flr_model.data.catalog import Catalog
from flr_model.data.dataset import SPLITS, Dataset, write_rows
from flr_model.data.histories import HistoryRows
from flr_model.errors import ArtifactError


def write_dataset(folder, target=0):
    folder.mkdir()
    Catalog(np.array(["a", "b"], object), np.array(["A", "B"], object)).write(folder / "items.parquet")
    write_rows(folder, dict.fromkeys(SPLITS, HistoryRows.from_lists([[1]], target=[target])))
    Manifest("dataset").write(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_dataset(tmp_path / "data")


@pytest.fixture
def run(folder):
    return Manifest("run", content={"dataset": str(folder), "dataset_fingerprint": Dataset.open(folder).fingerprint()})


def test_the_dataset_is_found_through_the_manifest(run, folder):
    assert Dataset.of(run).folder == folder


def test_a_moved_dataset_is_an_error_that_names_the_flag(run, folder, tmp_path):
    folder.rename(tmp_path / "moved")
    with pytest.raises(ArtifactError, match="is gone") as caught:
        Dataset.of(run)
    assert "--data" in caught.value.hint
    assert Dataset.of(run, tmp_path / "moved").folder == tmp_path / "moved"


def test_a_changed_dataset_is_an_error(run, folder):
    HistoryRows.from_lists([[0]], target=[1]).write(folder / "test.parquet")
    with pytest.raises(ArtifactError, match="has changed since the run was made from it"):
        Dataset.of(run)


def test_another_dataset_given_by_hand_is_only_warned_of(run, tmp_path, caplog):
    other = write_dataset(tmp_path / "other", target=1)
    assert Dataset.of(run, other).folder == other
    assert "is not the content that the run was made from" in caplog.text


def test_a_manifest_without_a_dataset_is_an_error():
    with pytest.raises(ArtifactError, match="does not say which dataset"):
        Dataset.of(Manifest("bundle"))
