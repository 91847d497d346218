import numpy as np
import pytest

from flr_model.training import setup
from flr_model.training.setup import set_up
from tests.builders import tiny_model, tiny_train


@pytest.mark.parametrize(("title_tokens", "said"), [(2, True), (48, False)])
def test_titles_that_are_cut_are_counted(tiny_dataset, tiny_backbone, caplog, title_tokens, said):
    set_up(tiny_dataset, tiny_model(tiny_backbone, title_tokens=title_tokens), tiny_train())
    assert ("60 titles longer than 2 tokens" in caplog.text) == said


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def vectors(tiny_dataset, tiny_backbone):
    return lambda: set_up(tiny_dataset, tiny_model(tiny_backbone), tiny_train()).recommender.items.unit_vectors.numpy()


def damages(whole):
    yield whole[:200]
    yield whole[:-1]
    for place in range(0, len(whole), len(whole) // 7):
        yield whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]
    yield b""


@pytest.mark.fault("damaged")
def test_a_damaged_cache_is_made_again_with_the_same_result(cache, vectors, caplog):
    right = vectors()
    (cached,) = (cache / "titles").iterdir()
    whole = cached.read_bytes()
    for content in damages(whole):
        cached.write_bytes(content)
        np.testing.assert_array_equal(vectors(), right)
    assert "the titles are read again" in caplog.text
    assert cached.read_bytes() == whole
    assert [path.name for path in (cache / "titles").iterdir()] == [cached.name]


def test_readings_of_other_titles_are_not_used(tmp_path, caplog):
    states = np.zeros((3, 2, 4), np.float32)
    setup._cache_states(tmp_path / "x.npz", states)
    np.testing.assert_array_equal(setup._cached_states(tmp_path / "x.npz", 3), states)
    assert setup._cached_states(tmp_path / "x.npz", 4) is None
    assert setup._cached_states(tmp_path / "gone.npz", 4) is None


def test_what_is_read_from_the_cache_is_not_computed_again(cache, vectors, monkeypatch):
    right = vectors()
    monkeypatch.setattr("flr_model.nn.item_encoder.ItemEncoder.read_titles", None)
    np.testing.assert_array_equal(vectors(), right)


@pytest.mark.fault("two processes")
def test_two_trainings_that_fill_one_cache_do_not_meet(cache, vectors, monkeypatch):
    """The second reads and writes in the middle of the first one's writing."""
    inner = []

    def slow(file, **arrays):
        save(file, **arrays)
        if not inner:
            inner.append("begun")
            file.truncate(file.tell() // 2)
            inner.append(vectors())
            file.seek(0)
            save(file, **arrays)

    save = np.savez
    right = vectors()
    next((cache / "titles").iterdir()).unlink()
    monkeypatch.setattr(np, "savez", slow)
    for found in (vectors(), inner[1], vectors()):
        np.testing.assert_array_equal(found, right)


@pytest.mark.fault("damaged")
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, vectors, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLR_CACHE", str(tmp_path / "file" / "cache"))
    vectors()
    assert "cannot be kept" in caplog.text
