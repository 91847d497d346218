import numpy as np

from flr_model.data.histories import PAD, HistoryRows
from flr_model.data.passes import share_passes


def rows(*parts: tuple[str, list[int], int]) -> HistoryRows:
    users, histories, targets = zip(*parts, strict=True)
    return HistoryRows.from_lists(histories, user_id=users, target=targets)


def windows(shared) -> list[list[int]]:
    flat = shared.items.ravel()
    return [[PAD if place == PAD else int(flat[place]) for place in row] for row in shared.place]


def test_rows_that_continue_each_other_are_one_sequence():
    some = rows(("a", [1], 2), ("a", [1, 2], 3), ("a", [1, 2, 3], 9), ("b", [7, 8], 1))
    shared = share_passes(some, 3)
    assert shared.items.tolist() == [[1, 2, 3], [PAD, 7, 8]]
    assert windows(shared) == some.padded(3).tolist()


def test_histories_cut_to_the_newest_items_are_windows_of_a_longer_sequence():
    some = rows(("a", [0, 1, 2], 3), ("a", [0, 1, 2, 3], 4), ("a", [0, 1, 2, 3, 4], 5))
    shared = share_passes(some, 2)
    assert shared.items.tolist() == [[1, 2, 3, 4]]
    assert windows(shared) == some.padded(2).tolist()


def test_rows_that_do_not_continue_each_other_stay_apart():
    some = rows(("a", [1], 2), ("a", [1, 5], 3), ("b", [1, 5, 3], 4), ("b", [3, 5, 4], 6), ("b", [], 1))
    shared = share_passes(some, 3)
    assert len(shared.items) == 5
    assert windows(shared) == some.padded(3).tolist()


def test_every_window_holds_its_history_for_random_users():
    rng = np.random.default_rng(0)
    parts = []
    for user in range(20):
        items = rng.integers(0, 9, rng.integers(2, 12)).tolist()
        parts += [(f"u{user}", items[:end], items[end]) for end in range(1, len(items)) if rng.random() < 0.8]
    some = rows(*parts)
    assert windows(share_passes(some, 4)) == some.padded(4).tolist()
