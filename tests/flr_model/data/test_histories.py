import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flr_model.data.histories import PAD, HistoryRows

histories = st.lists(st.lists(st.integers(0, 50), max_size=8), max_size=6)
filled = st.lists(st.lists(st.integers(0, 50), max_size=8), min_size=1, max_size=6)


def lists(rows):
    return [rows.items[a:b].tolist() for a, b in zip(rows.offsets[:-1], rows.offsets[1:], strict=True)]


def rows_of(items):
    """Rows whose every value differs, so that nothing can be mixed up unnoticed."""
    return HistoryRows.from_lists(
        items,
        user_id=[f"user {row}" for row in range(len(items))],
        times=[[1000 * (row + 1) + at for at in range(len(items[row]))] for row in range(len(items))],
        target=[100 + row for row in range(len(items))],
        target_time=[5000 + row for row in range(len(items))],
    )


def assert_equal(one, other):
    for name, value in vars(one).items():
        if value is None:
            assert getattr(other, name) is None
            continue
        np.testing.assert_array_equal(getattr(other, name), value, err_msg=name)
        assert getattr(other, name).dtype == value.dtype, name


ROWS = rows_of([[1, 2, 3], [], [4]])


def test_what_is_not_given_is_unknown():
    rows = HistoryRows.from_lists([[7], [8, 9]])
    assert rows.user_id.tolist() == ["0", "1"]
    assert rows.target.tolist() == [PAD, PAD]
    assert rows.times.tolist() == [0, 0, 0]
    assert rows.lengths.tolist() == [1, 2]


@pytest.mark.parametrize(
    "index", [np.asarray([2, 0]), np.asarray([True, False, True])[[2, 1, 0]], slice(1, 3), np.asarray([0, 0])]
)
def test_rows_are_selected_whole_and_in_order(index):
    chosen = np.arange(3)[index]
    selected = ROWS.select(index)
    assert lists(selected) == [lists(ROWS)[row] for row in chosen]
    assert selected.user_id.tolist() == [f"user {row}" for row in chosen]
    assert selected.target.tolist() == [100 + row for row in chosen]
    assert selected.times.tolist() == [
        t for row in chosen for t in range(1000 * (row + 1), 1000 * (row + 1) + len(lists(ROWS)[row]))
    ]


def test_the_newest_items_are_kept():
    newest = ROWS.truncated(2)
    assert lists(newest) == [[2, 3], [], [4]]
    assert newest.times.tolist() == [1001, 1002, 3000]
    assert newest.target.tolist() == ROWS.target.tolist()


def test_padding_is_on_the_left():
    assert ROWS.padded(2).tolist() == [[2, 3], [PAD, PAD], [PAD, 4]]
    assert ROWS.padded(4).tolist() == [[PAD, 1, 2, 3], [PAD] * 4, [PAD, PAD, PAD, 4]]


@given(filled, st.integers(1, 10))
def test_a_padded_history_holds_its_newest_items(items, length):
    for history, line in zip(items, rows_of(items).padded(length).tolist(), strict=True):
        kept = history[-length:]
        assert line == [PAD] * (length - len(kept)) + kept


@given(filled, st.integers(1, 10))
def test_slots_are_where_padding_puts_the_items(items, extra):
    rows = rows_of(items)
    length = int(rows.lengths.max()) + extra
    assert rows.padded(length)[rows.row_of_item(), rows.slot_of_item(length)].tolist() == rows.items.tolist()


@given(histories, histories)
def test_concatenated_rows_are_taken_apart_again(first, second):
    a, b = rows_of(first), rows_of(second)
    both = HistoryRows.concatenate([a, b])
    assert_equal(both.select(slice(0, len(a))), a)
    assert_equal(both.select(slice(len(a), None)), b)


@given(items=histories)
def test_written_and_read_rows_are_the_same(tmp_path_factory, items):
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    rows_of(items).write(path)
    assert_equal(HistoryRows.read(path), rows_of(items))


def test_user_ids_are_kept_as_text(tmp_path):
    rows = HistoryRows.from_lists([[1], [2]], user_id=["007", 'Zoë, "x"\n'])
    rows.write(tmp_path / "rows.parquet")
    assert HistoryRows.read(tmp_path / "rows.parquet").user_id.tolist() == ["007", 'Zoë, "x"\n']


def test_no_rows_can_be_selected_padded_and_cut():
    none = ROWS.select(slice(0, 0))
    assert len(none) == 0
    assert none.padded(3).shape == (0, 3)
    assert len(none.truncated(2)) == 0


def as_sets(rows):
    row, item = rows.seen()
    return [set(item[row == number].tolist()) for number in range(len(rows))]


def test_what_a_cut_leaves_out_is_still_had():
    rows = HistoryRows.from_lists([[0, 1, 2], [3], [4, 5]]).cut(1)
    assert rows.items.tolist() == [2, 3, 5]
    assert as_sets(rows) == [{0, 1, 2}, {3}, {4, 5}]
    assert as_sets(rows.select(np.array([2, 0]))) == [{4, 5}, {0, 1, 2}]


def test_joined_rows_keep_what_each_user_had():
    parts = [HistoryRows.from_lists([[0, 1, 2]]).cut(1), HistoryRows.from_lists([[3]])]
    parts.append(HistoryRows.from_lists([[4, 5], [6]]).cut(1))
    assert as_sets(HistoryRows.concatenate(parts)) == [{0, 1, 2}, {3}, {4, 5}, {6}]
    assert HistoryRows.concatenate([parts[1], parts[1]]).older is None


@given(histories, st.lists(st.integers(0, 9), min_size=6, max_size=6), st.integers(1, 4))
def test_targets_that_users_had_are_found_in_the_history_and_before_it(items, targets, limit):
    items = [[item % 10 for item in history] for history in items]
    rows = HistoryRows.from_lists(items, target=targets[: len(items)])
    expected = [target in history for history, target in zip(items, targets, strict=False)]
    assert rows.target_seen().tolist() == expected
    assert rows.cut(limit).target_seen().tolist() == expected
    assert not HistoryRows.from_lists(items).target_seen().any()
