import json

import numpy as np
import pandas as pd
import pytest

from flr_model import columns
from flr_model.data.catalog import Catalog
from flr_model.data.presplit import read_split
from flr_model.errors import DataError
from flr_model.files.reading import Reading

HEADER = "user_id,history_item_id,item_id,history_timestamp,timestamp\n"


def _read(tmp_path, text, names=None):
    path = tmp_path / "train.csv"
    path.write_text(text)
    return read_split(path, Reading(names=names or {}))


def test_lists_of_ids_and_times_are_read(tmp_path):
    file = _read(tmp_path, HEADER + 'u,"[1, 2]",3,"[10, 20]",30\nv,[2],1,[5],6\n')
    catalog = Catalog(np.asarray(["1", "2", "3"], object), np.asarray(["A", "B", "C"], object))
    rows = file.rows(catalog, 10)
    assert rows.user_id.tolist() == ["u", "v"]
    assert rows.items.tolist() == [0, 1, 1]
    assert rows.offsets.tolist() == [0, 2, 3]
    assert rows.times.tolist() == [10, 20, 5]
    assert rows.target.tolist() == [2, 0]
    assert rows.target_time.tolist() == [30, 6]
    assert file.timed


def test_histories_are_put_in_order_of_time_and_ties_stay_as_they_stand(tmp_path):
    file = _read(tmp_path, HEADER + 'u,"[4, 3, 2, 1]",9,"[40, 20, 20, 10]",50\nv,[],9,[],6\nw,"[2, 1]",9,"[5, 4]",6\n')
    assert file.history.tolist() == ["1", "3", "2", "4", "1", "2"]
    assert file.times.tolist() == [10, 20, 20, 40, 4, 5]


@pytest.mark.parametrize("cell", ["\"['a', 'b']\"", '"[""a"", ""b""]"', "\"('a', 'b')\"", "a b"])
def test_every_spelling_of_a_list_is_read(tmp_path, cell):
    file = _read(tmp_path, f"user_id,history,item_id\nu,{cell},c\n")
    assert file.history.tolist() == ["a", "b"]
    assert not file.timed


def test_history_columns_may_be_named(tmp_path):
    names = {columns.HISTORY: "seq", columns.HISTORY_TIMES: "when"}
    file = _read(tmp_path, 'user_id,seq,item_id,when\nu,"[1, 2]",3,"[10, 20]"\n', names)
    assert (file.history.tolist(), file.times.tolist()) == (["1", "2"], [10, 20])


def test_missing_history_column_names_its_flag_and_no_list_of_something_else(tmp_path):
    with pytest.raises(DataError, match=r"has no history column \(such as history_item_id\)\.") as caught:
        _read(tmp_path, "user_id,item_id,history_rating\nu,1,[5]\n")
    assert "--history-col" in caught.value.hint


def test_parquet_and_json_lists_are_read(tmp_path):
    record = {"user_id": "u", "history": ["a", "b"], "item_id": "c"}
    pd.DataFrame([record]).to_parquet(tmp_path / "train.parquet")
    (tmp_path / "train.jsonl").write_text(json.dumps(record) + "\n")
    for name in ("train.parquet", "train.jsonl"):
        assert read_split(tmp_path / name, Reading()).history.tolist() == ["a", "b"]


def test_rows_without_history_are_left_out_and_counted(tmp_path):
    file = _read(tmp_path, HEADER + "u,[],3,[],30\nv,[2],1,[5],6\n")
    assert file.user_id.tolist() == ["v"]
    assert file.item_id.tolist() == ["1"]
    assert len(file.rejects) == 1


def test_all_problems_of_a_file_come_in_one_message(tmp_path):
    with pytest.raises(DataError) as caught:
        _read(tmp_path, HEADER + 'u,[1],3,[10],30\n,[2],1,"[5, 6]",6\nw,[oops()],1,[5],never\n')
    message = caught.value.message
    assert "no user id in 1 row (line 3)" in message
    assert "history: not a list of ids in 1 row (line 4: '[oops()]')" in message
    assert "timestamp is neither a number nor a date in 1 row (line 4: 'never')" in message
    assert "history: 1 item but 2 times in 1 row (line 3" in message


def test_cells_are_never_evaluated(tmp_path):
    mark = tmp_path / "mark"
    with pytest.raises(DataError, match="not a list of ids"):
        _read(tmp_path, f"user_id,history,item_id\nu,[open('{mark}' 'w')],c\nv,[1],c\n".replace("' 'w", "'+'w"))
    assert not mark.exists()
