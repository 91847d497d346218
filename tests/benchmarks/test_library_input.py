from library_input import right_padded

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
