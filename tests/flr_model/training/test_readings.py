"""The cache of readings: what it saves, and what kills, damage and other processes do to it."""

import sqlite3

import numpy as np
import pytest
import torch

from flr_model.nn.item_readers import ItemReader
from flr_model.nn.run import build_item_encoder
from flr_model.training import readings
from flr_model.training.readings import ReadingsCache, read_catalogue, reading_dtype
from tests.builders import TITLES, tiny_model


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "titles"


@pytest.fixture(scope="module")
def encoder(tiny_backbone, tiny_sentence_encoder):
    return build_item_encoder(tiny_model(tiny_backbone, item_readers=f"backbone,{tiny_sentence_encoder}"))


@pytest.fixture
def asked(monkeypatch):
    """The titles that readers were given to read."""
    titles = []
    whole = ItemReader.read_titles

    def read_titles(self, wanted, **options):
        titles.extend(wanted)
        whole(self, wanted, **options)

    monkeypatch.setattr(ItemReader, "read_titles", read_titles)
    return titles


@pytest.fixture
def read(cache, encoder):
    return lambda titles: read_catalogue(encoder, titles, precision="fp32")


def assert_same(one, other):
    for states, expected in zip(one, other, strict=True):
        np.testing.assert_allclose(states, expected, atol=1e-5)


def test_each_title_is_read_once_by_each_reader_whatever_the_catalogue(read, asked):
    first = read(TITLES[:40])
    assert sorted(asked) == sorted(2 * TITLES[:40])
    asked.clear()
    later = read(["new", *TITLES[:40][::-1], TITLES[0]])
    assert asked == ["new", "new"]
    assert_same([states[1:41][::-1] for states in later], first)
    assert_same([states[-1:] for states in later], [states[:1] for states in first])


def test_a_reading_that_was_killed_goes_on(read, asked, encoder, monkeypatch):
    expected = read(TITLES)
    for file in readings.cache_folder().joinpath("titles").iterdir():
        file.unlink()
    monkeypatch.setattr("flr_model.nn.item_readers.TOKENS_PER_BATCH", 60)
    monkeypatch.setattr(readings, "SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(ReadingsCache, "__exit__", lambda self, *_: self._close())  # a kill closes nothing in order
    add = ReadingsCache.add

    def killed(self, titles, states):
        add(self, titles, states)
        if len(kept := [*kept_titles, *titles]) > 20:
            raise KeyboardInterrupt
        kept_titles[:] = kept

    kept_titles = []
    monkeypatch.setattr(ReadingsCache, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        read(TITLES)
    monkeypatch.setattr(ReadingsCache, "add", add)
    asked.clear()
    assert_same(read(TITLES), expected)
    assert 0 < len(asked) - len(TITLES) < 40  # the second reader has all to read, the first one only the rest
    assert not set(kept_titles) & set(asked[: len(asked) - len(TITLES)])


def damages(whole):
    yield whole[:200]
    yield whole[:-1]
    yield whole[: len(whole) // 2]
    for place in [0, 20, 100, *range(0, len(whole), len(whole) // 29)]:
        yield whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]
    yield b""
    yield b"no database at all, but of some length" * 100


def test_a_damaged_cache_gives_the_same_result(read, cache, caplog):
    right = read(TITLES)
    for file in cache.iterdir():
        whole = file.read_bytes()
        for content in damages(whole):
            file.write_bytes(content)
            assert_same(read(TITLES), right)
            assert_same(read(TITLES), right)
        file.write_bytes(whole)
    assert "read again" in caplog.text
    assert all(file.suffix == ".sqlite" for file in cache.iterdir())


def test_a_damaged_reading_is_told_by_its_checksum_and_read_again(read, cache, asked, caplog):
    right = read(TITLES)
    asked.clear()
    for file in cache.iterdir():
        with sqlite3.connect(file) as connection:
            (states,) = connection.execute("SELECT states FROM readings LIMIT 1").fetchone()
            wrong = bytes([states[0] ^ 1]) + states[1:]
            connection.execute("UPDATE readings SET states = ? WHERE states = ?", (wrong, states))
    assert_same(read(TITLES), right)
    assert len(asked) == 2
    assert "1 damaged reading" in caplog.text
    asked.clear()
    read(TITLES)
    assert asked == []


def test_two_processes_fill_one_file(tmp_path):
    """Both open it empty, write in turns, and neither waits for the end of the other."""
    file, states = tmp_path / "cache.sqlite", np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    found = np.zeros_like(states)
    with ReadingsCache(file) as one, ReadingsCache(file) as other:
        for cache, which in ((one, [0, 1]), (other, [1, 2]), (one, [3])):
            cache.add([f"title {n}" for n in which], states[which])
            cache._write()
        assert other.find([f"title {n}" for n in range(4)], found).all()
    np.testing.assert_array_equal(found, states)


def test_a_cache_that_cannot_be_used_is_done_without(encoder, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLR_CACHE", str(tmp_path / "file" / "cache"))
    states = read_catalogue(encoder, TITLES[:5])
    assert [len(one) for one in states] == [5, 5]
    assert "cannot be kept" in caplog.text


def test_a_locked_cache_is_done_without_and_stays(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(readings, "SECONDS_TO_WAIT", 0.05)
    file, states = tmp_path / "cache.sqlite", np.ones((1, 2, 3), np.float32)
    with ReadingsCache(file) as cache:
        cache.add(["kept"], states)
    holder = sqlite3.connect(file)
    holder.execute("BEGIN EXCLUSIVE")
    with ReadingsCache(file) as cache:
        assert not cache.find(["kept"], np.zeros_like(states)).any()
        cache.add(["other"], states)
    assert "locked" in caplog.text
    holder.close()
    with ReadingsCache(file) as cache:
        assert cache.find(["kept"], np.zeros_like(states)).all()


def test_the_precision_is_that_of_the_flag_or_of_the_device(monkeypatch):
    cpu = torch.device("cpu")
    for has_it in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has_it=has_it: has_it)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        expected = torch.bfloat16 if has_it else torch.float32
        assert reading_dtype("auto", cpu) == expected
    assert reading_dtype("bf16", cpu) == torch.bfloat16
    assert reading_dtype("fp32", cpu) == torch.float32


def test_what_is_read_and_how_is_said(read, cache, caplog):
    with caplog.at_level("INFO"):
        read(TITLES)
    assert "60 titles of 60 to read with backbone in float32 (--title-precision)" in caplog.text
