import numpy as np

from flr_model.data.histories import HistoryRows
from flr_model.evaluation.segments import detail_masks, popularity_thirds, segment_masks, training_counts


def test_training_counts_counts_an_item_once_per_user():
    # User a has rows [0] -> 1 and [0, 1] -> 2: items 0 and 1 occur in both of them.
    train = HistoryRows.from_lists([[0], [0, 1], [2]], user_id=["a", "a", "b"], target=[1, 2, 0])
    assert training_counts(train, 4).tolist() == [2, 1, 2, 0]


def test_popularity_thirds_divides_interactions_and_not_items():
    # 6 + 3 + 3 + 2 + 2 + 2 interactions: the most popular item alone is the first third.
    names = popularity_thirds(np.array([2, 3, 6, 2, 3, 0, 2]))
    assert names.tolist() == ["tail", "middle", "head", "tail", "middle", "", "tail"]


def test_cold_targets_are_in_no_popularity_segment():
    train = HistoryRows.from_lists([[0]], target=[1])
    masks = segment_masks(HistoryRows.from_lists([[0], [0]], target=[1, 2]), train, 3)
    assert masks["target"]["warm"].tolist() == [True, False]
    assert masks["target"]["cold"].tolist() == [False, True]
    assert sum(mask[1] for mask in masks["popularity"].values()) == 0


def test_history_buckets_without_rows_are_left_out():
    train = HistoryRows.from_lists([[0]], target=[1])
    rows = HistoryRows.from_lists([[0], [0] * 5, [0] * 21, []], target=[1, 1, 1, 1])
    masks = segment_masks(rows, train, 2)["history"]
    assert {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()} == {
        "0": [3],
        "1-2": [0],
        "3-5": [1],
        "21+": [2],
    }


def test_a_target_of_several_values_is_in_the_group_of_each():
    rows = HistoryRows.from_lists([[0]] * 4, target=[0, 1, 1, 2])
    masks = detail_masks(rows, np.asarray(["Action|Comedy", "Action", ""], object))
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "Action": [True, True, True, False],
        "Comedy": [True, False, False, False],
        "(none)": [False, False, False, True],
    }


def test_rare_values_are_one_group():
    rows = HistoryRows.from_lists([[0]] * 30, target=list(range(30)))
    masks = detail_masks(rows, np.asarray([f"v{n}" for n in range(30)], object))
    assert len(masks) == 21
    assert masks["(others)"].sum() == 10
