import numpy as np
from library_input import distinct_pairs, right_padded

from flr_model.data.histories import HistoryRows


def test_right_padded_numbers_items_from_one_and_fills_behind_the_newest():
    items, lengths = right_padded(HistoryRows.from_lists([[4, 0], [7]]), 3)
    assert items.tolist() == [[5, 1, 0], [8, 0, 0]]
    assert lengths.tolist() == [2, 1]


def test_right_padded_keeps_the_newest_items():
    items, lengths = right_padded(HistoryRows.from_lists([[4, 0, 9], [7]]), 2)
    assert items.tolist() == [[1, 10], [8, 0]]
    assert lengths.tolist() == [2, 1]


def test_right_padded_gives_an_empty_history_one_position_of_nothing():
    items, lengths = right_padded(HistoryRows.from_lists([[]]), 2)
    assert items.tolist() == [[0, 0]]
    assert lengths.tolist() == [1]


def test_distinct_pairs_joins_the_rows_of_a_user_and_counts_every_item_once():
    rows = HistoryRows.from_lists([[0], [2], [0, 1]], user_id=["b", "a", "b"], target=[1, 0, 3])
    users, items = distinct_pairs(rows)
    assert list(zip(users.tolist(), items.tolist(), strict=True)) == [(0, 0), (0, 2), (1, 0), (1, 1), (1, 3)]


def test_distinct_pairs_leaves_out_unknown_targets():
    users, items = distinct_pairs(HistoryRows.from_lists([[5]]))
    assert np.stack([users, items]).tolist() == [[0], [5]]
