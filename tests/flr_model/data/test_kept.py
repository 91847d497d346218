"""Interactions that a dataset keeps, and those of a file behind them."""

from collections import Counter

import pytest

from flr_model.data.interactions import read_interactions
from flr_model.data.kept import join_kept, write_kept
from flr_model.errors import ArtifactError
from flr_model.files.reading import Reading


def _read(path, *rows):
    path.write_text("user_id,item_id,timestamp\n" + "".join(f"{user},{item},{time}\n" for user, item, time in rows))
    return read_interactions(path, Reading())


def _rows(data):
    return [
        (data.user_ids[user], data.item_ids[item], time // 1_000_000)
        for user, item, time in zip(data.user, data.item, data.time, strict=True)
    ]


OLD = [
    ("ann", "a", 1_600_000_000),
    ("ann", "b", 1_600_000_100),
    ("bob", "a", 1_600_000_200),
    ("bob", "a", 1_600_000_200),
]
NEW = [("cem", "c", 1_600_000_300), ("ann", "b", 1_600_000_400)]


@pytest.mark.parametrize("file", [NEW, OLD + NEW, OLD[1:] + NEW, NEW + OLD[::-1]])
def test_what_both_have_counts_once_and_the_old_come_first(tmp_path, file, caplog):
    write_kept(tmp_path / "kept.parquet", _read(tmp_path / "old.csv", *OLD))
    with caplog.at_level("INFO"):
        joined = join_kept(tmp_path / "kept.parquet", _read(tmp_path / "new.csv", *file))
    assert _rows(joined)[: len(OLD)] == OLD
    assert Counter(_rows(joined)) == Counter(OLD + NEW)
    assert f"{len(file)} rows, 2 of them new" in caplog.text
    assert f"{len(OLD + NEW) - len(file)} of the dataset's are not in it and stay" in caplog.text


def test_the_same_again_at_the_same_time_is_new_when_the_dataset_has_it_once(tmp_path):
    write_kept(tmp_path / "kept.parquet", _read(tmp_path / "old.csv", *OLD[:3]))
    joined = join_kept(tmp_path / "kept.parquet", _read(tmp_path / "new.csv", *OLD))
    assert Counter(_rows(joined)) == Counter(OLD)


def test_a_file_that_is_no_table_is_named(tmp_path):
    (tmp_path / "kept.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match=r"kept\.parquet cannot be read"):
        join_kept(tmp_path / "kept.parquet", _read(tmp_path / "new.csv", *OLD))
