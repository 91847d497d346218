import numpy as np
import pytest

from flr_model.artifacts import Manifest
from flr_model.data.catalog import Catalog
from flr_model.data.dataset import SPLITS, Dataset, write_rows
from flr_model.data.histories import HistoryRows
from flr_model.errors import ArtifactError
from tests.builders import reseal

pytestmark = pytest.mark.fault("damaged")


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
    reseal(folder)
    with pytest.raises(ArtifactError, match="has changed since the run was made from it"):
        Dataset.of(run)


def test_another_dataset_given_by_hand_is_only_warned_of(run, tmp_path, caplog):
    other = write_dataset(tmp_path / "other", target=1)
    assert Dataset.of(run, other).folder == other
    assert "is not the content that the run was made from" in caplog.text


def test_a_manifest_without_a_dataset_is_an_error():
    with pytest.raises(ArtifactError, match="does not say which dataset"):
        Dataset.of(Manifest("bundle"))


@pytest.mark.parametrize(("history", "target"), [([2], 0), ([-1], 0), ([1], 2)])
def test_rows_of_items_that_are_not_there_are_refused(folder, history, target):
    HistoryRows.from_lists([history], target=[target]).write(folder / "test.parquet")
    reseal(folder)
    with pytest.raises(ArtifactError, match=r"test\.parquet has items"):
        Dataset.open(folder).rows("test")


@pytest.mark.parametrize("name", ["items.parquet", "test.parquet", "earlier.npz"])
def test_files_that_cannot_be_read_are_named(folder, name):
    (folder / name).write_bytes(b"PAR1 or PK, and then nothing")
    reseal(folder)
    with pytest.raises(ArtifactError, match=rf"{name} cannot be read"):
        Dataset.open(folder).rows("test")


def test_earlier_items_of_other_rows_are_refused(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    write_rows(other, dict.fromkeys(SPLITS, HistoryRows.from_lists([[1], [0]], target=[0, 1])))
    (folder / "earlier.npz").write_bytes((other / "earlier.npz").read_bytes())
    reseal(folder)
    with pytest.raises(ArtifactError, match=r"earlier\.npz does not fit test\.parquet"):
        Dataset.open(folder).rows("test")
