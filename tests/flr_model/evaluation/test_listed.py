import logging

import numpy as np
import pytest

from flr_model.data.histories import HistoryRows
from flr_model.errors import DataError
from flr_model.evaluation.listed import Listed
from flr_model.evaluation.metrics import MISS, target_ranks
from flr_model.ranking.candidates import UNSEEN
from tests.builders import catalog_of

ITEMS = catalog_of(list("abcde"))


def read(tmp_path, text):
    path = tmp_path / "ours.csv"
    path.write_text(text, encoding="utf-8")
    return Listed.read(path, ITEMS)


def ranks(listed, users, targets, histories=None):
    rows = HistoryRows.from_lists(histories or [[]] * len(users), user_id=users, target=targets)
    return target_ranks(listed.scores(rows, UNSEEN), rows.target).tolist()


def test_lists_are_ordered_by_rank_where_there_is_one_else_by_score(tmp_path):
    both = "user_id,item_id,rank,score\nu,i3,2,9\nv,i0,1,1\nu,i1,1,2\n"
    assert ranks(read(tmp_path, both), ["u", "u", "v"], [1, 3, 0]) == [0, 1, 0]
    assert ranks(read(tmp_path, both.replace("rank", "page")), ["u", "u"], [1, 3]) == [1, 0]


def test_what_a_list_lacks_is_a_miss_and_so_is_a_user_without_one(tmp_path):
    assert ranks(read(tmp_path, "user_id,item_id,rank\nu,i0,1\n"), ["u", "w"], [1, 0]) == [MISS, MISS]


def test_equal_scores_count_against_the_target_and_seen_items_are_skipped(tmp_path):
    listed = read(tmp_path, "user_id,item_id,score\nu,i0,5\nu,i1,3\nu,i2,3\nu,i3,-1\n")
    assert ranks(listed, ["u", "u", "u"], [1, 2, 3], [[0], [], []]) == [1, 2, 3]


def test_an_item_listed_twice_has_its_best_place(tmp_path):
    listed = read(tmp_path, "user_id,item_id,rank\nu,i1,3\nu,i2,2\nu,i1,1\n")
    assert ranks(listed, ["u", "u"], [1, 2]) == [0, 1]


def test_large_scores_are_told_apart(tmp_path):
    listed = read(tmp_path, "user_id,item_id,score\nu,i0,16777217\nu,i1,16777216\n")
    assert ranks(listed, ["u", "u"], [0, 1]) == [0, 1]


def test_missing_columns_are_named(tmp_path):
    with pytest.raises(DataError, match=r"has no column of ranks or scores .* 'user_id', 'item_id', 'nr'"):
        read(tmp_path, "user_id,item_id,nr\nu,i1,3\n")
    with pytest.raises(DataError, match="has no user_id column"):
        read(tmp_path, "who,item_id,rank\nu,i1,3\n")


def test_rows_that_cannot_be_read_are_left_out_and_most_of_them_are_refused(tmp_path, caplog):
    good = "".join(f"u{n},i1,1\n" for n in range(20))
    with caplog.at_level(logging.WARNING):
        assert len(read(tmp_path, f"user_id,item_id,rank\n{good}x,i1,first\n").users) == 20
    assert "rank is no number in 1 row (line 22: 'first')" in caplog.text
    with pytest.raises(DataError, match="score is no number"):
        read(tmp_path, 'user_id;item_id;score\nu;i1;"0,5"\n')


def test_unknown_items_are_counted_and_a_file_of_them_is_refused(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        listed = read(tmp_path, "user_id,item_id,rank\nu,zz,1\nu,i1,2\n")
    assert "left out: 1 of 2, for instance zz" in caplog.text
    assert ranks(listed, ["u"], [1]) == [0]
    with pytest.raises(DataError, match="recommends no item of the dataset, but for instance zz"):
        read(tmp_path, "user_id,item_id,rank\nu,zz,1\n")


def test_a_result_says_how_far_the_file_reaches(tmp_path):
    listed = read(tmp_path, "user_id,item_id,rank\nu,i0,1\nu,i1,2\nx,i1,1\n")
    rows = HistoryRows.from_lists([[], [], []], user_id=["u", "w", "w"], target=[0, 1, 2])
    facts = listed.describe(rows)
    assert facts | {"users": 2, "longest_list": 2, "users_without": 1, "rows_without": 2} == facts
    assert np.isneginf(listed.scores(rows)[1:]).all()
