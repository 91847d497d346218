"""The users' sequences that training rows tell of."""

from dataclasses import replace

import numpy as np
import pytest

from flr_model.data.histories import HistoryRows, sequences
from tests.builders import rows_of

# Ann took 0 and then 1; Bob took 0, 1 and then 2, the last two at the same time.
ANN_AND_BOB = rows_of({"ann": [(0, 10), (1, 20)], "bob": [(0, 30), (1, 40), (2, 40)]})

# Five users, twelve items each in order of time; some times are shared, u0 takes item 3 twice.
LONG = {f"u{n}": [(3 if n == 0 and at == 8 else 20 * n + at, 100 + at // 2) for at in range(12)] for n in range(5)}


def test_sequences_hold_every_interaction_once():
    user, item, time, users = sequences(ANN_AND_BOB)
    assert users == {"ann": 0, "bob": 1}
    assert user.tolist() == [0, 0, 1, 1, 1]
    assert item.tolist() == [0, 1, 0, 1, 2]
    assert time.tolist() == [10, 20, 30, 40, 40]


def test_sequences_do_not_need_the_rows_of_a_user_to_be_neighbours():
    shuffled = ANN_AND_BOB.select(np.asarray([1, 0, 2]))  # as in a split by time; each user's own rows stay in order
    user, item, _, users = sequences(shuffled)
    assert users == {"bob": 0, "ann": 1}
    assert [(u, i) for u, i in zip(user.tolist(), item.tolist(), strict=True)] == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1),
    ]  # fmt: skip


def in_order(rows):
    user, item, time, users = sequences(rows)
    names = list(users)
    return {
        name: list(zip(item[user == n].tolist(), time[user == n].tolist(), strict=True)) for n, name in enumerate(names)
    }


def test_shuffled_rows_give_the_same_sequences():
    rows = rows_of(LONG)
    shuffled = in_order(rows.select(np.random.default_rng(0).permutation(len(rows))))
    assert {user: sorted(events) for user, events in shuffled.items()} == {u: sorted(e) for u, e in LONG.items()}
    assert all([time for _, time in events] == [time for _, time in LONG[user]] for user, events in shuffled.items())


def test_shuffled_rows_without_times_are_in_order_of_their_histories():
    known = {"u": [(item, 0) for item in range(10)]}
    rows = rows_of(known).cut(3)
    assert in_order(rows.select(np.asarray([4, 2, 8, 0, 1, 7, 6, 5, 3]))) == known


def test_histories_have_times_where_targets_have_none():
    known = {"u": [(item, 100 + item) for item in range(6)]}
    rows = replace(rows_of(known), target_time=np.zeros(5, np.int64))
    assert in_order(rows) == {"u": [(0, 100), *((item, 0) for item in range(1, 6))]}


@pytest.mark.parametrize("timed", [True, False])
def test_rows_drawn_from_all_show_what_lies_between_in_their_histories(timed):
    known = {user: [(item, time * timed) for item, time in events] for user, events in LONG.items()}
    rows = rows_of(known)
    last = rows.lengths == rows.lengths.max()
    drawn = rows.select((np.random.default_rng(1).random(len(rows)) < 0.4) | last)
    assert len(drawn) < 0.7 * len(rows)
    assert ("u0", 3, 8) not in set(zip(drawn.user_id, drawn.target.tolist(), drawn.lengths.tolist(), strict=True))
    if not timed:  # the second time that u0 takes item 3 is told by its row alone
        del known["u0"][8]
    assert in_order(drawn) == known


def test_what_was_cut_off_histories_is_no_second_time():
    known = {"u": [(item, 100 + item) for item in range(40)]}
    rows = rows_of(known, max_history=40).cut(3)
    drawn = rows.select(np.asarray([5, 6, 20, 38]))
    assert [item for item, _ in in_order(drawn)["u"]] == list(range(40))


def test_a_first_row_adds_what_was_cut_off_its_history():
    rows = HistoryRows.from_lists([[5, 6, 7, 8]], times=[[10, 20, 30, 40]], target=[9], target_time=[50]).cut(2)
    _, item, time, _ = sequences(rows)
    assert item.tolist() == [5, 6, 7, 8, 9]
    assert time.tolist() == [0, 0, 30, 40, 50]
