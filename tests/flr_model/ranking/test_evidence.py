import math
import tracemalloc

import numpy as np
import pytest

import flr_model.ranking.lags
import flr_model.ranking.pair_events
from flr_model.data.histories import HistoryRows
from flr_model.errors import ArtifactError
from flr_model.ranking.evidence import Evidence, fits_table
from flr_model.ranking.lags import BUCKETS, PaddedHistories, history_lags, lag_bounds
from flr_model.ranking.pair_events import PairEvents, channel
from tests.builders import no_evidence, rows_of

# Ann took 0 and then 1; Bob took 0, 1 and then 2, the last two at the same time.
ROWS = rows_of({"ann": [(0, 10), (1, 20)], "bob": [(0, 30), (1, 40), (2, 40)]})


@pytest.fixture(autouse=True, params=["places", "table"])
def table(request, monkeypatch):
    """Both ways to count: the pairs that were met, and a table of all."""
    monkeypatch.setattr("flr_model.ranking.evidence.TABLE_SHARE", {"places": 0, "table": 10**9}[request.param])
    return request.param == "table"


@pytest.fixture
def evidence():
    """Of 4 items and 2 factors: 0 goes with 1 (2 and 1) and with 3 (1/2 and 0); 1 goes with 3 (1 and 3)."""
    return Evidence(
        indptr=np.asarray([0, 2, 3, 3, 3]),
        neighbour=np.asarray([1, 3, 3]),
        value=np.asarray([[2, 1], [0.5, 0], [1, 3]], np.float32),
        weight=np.asarray([10, 1], np.float32),
        scale=np.asarray([2, 1], np.float32),
        seen=-4.0,
        lag_bounds=np.asarray([0, 10]),
    )


def ones(rows, length=2):
    return np.ones((len(rows), 2, length), np.float32)


def dense(counts, n_rows, n_items):
    """(R, M, K) logits of all places."""
    out = np.zeros((n_rows, 2, n_items), np.float32)
    counts.add_to(out, 0)
    return out.transpose(0, 2, 1)


def test_pairs_are_counted_by_direction_distance_and_lag():
    events = PairEvents.count(ROWS, 4)
    assert events.degree.tolist() == [2, 2, 1, 0]
    counted = {
        (int(events.source[pair]), int(events.neighbour[pair]), int(circumstances)): 0
        for pair, circumstances in zip(events.event_pair, events.event_channel, strict=True)
    }
    for pair, circumstances in zip(events.event_pair, events.event_channel, strict=True):
        counted[int(events.source[pair]), int(events.neighbour[pair]), int(circumstances)] += 1

    def number(direction, distance, lag):
        return int(channel(np.asarray(direction), np.asarray(distance), np.asarray(lag), 2))

    assert counted == {
        (0, 1, number(0, 1, 1)): 2,  # Ann and Bob
        (1, 0, number(1, 1, 1)): 2,
        (1, 2, number(0, 1, 0)): 1,  # Bob, at the same time
        (2, 1, number(1, 1, 0)): 1,
        (0, 2, number(0, 2, 1)): 1,
        (2, 0, number(1, 2, 1)): 1,
    }
    assert len(set(counted)) == len(counted)


def test_unknown_times_are_never_the_same_time():
    timeless = PairEvents.count(HistoryRows.from_lists([[0]], target=[1]), 2)
    assert timeless.event_channel.tolist() == [1, 2 * len(BUCKETS) + 1]  # distance 1 after and before, of another time


def test_few_lags_are_none_or_some():
    assert PairEvents.count(ROWS, 4).lag_bounds.tolist() == [0]


def test_many_lags_are_shared_out_evenly_over_buckets(monkeypatch):
    users = rows_of({f"u{n}": [(0, 1), (1, 1 + 10 * (n + 1))] for n in range(6)})  # lags 10, 20, .. 60
    for each, bounds in ((1, [0, 10, 20, 30, 40, 50]), (3, [0, 20, 40]), (6, [0, 30]), (7, [0])):
        monkeypatch.setattr(flr_model.ranking.lags, "LAGS_PER_BUCKET", each)
        assert PairEvents.count(users, 2).lag_bounds.tolist() == bounds


def test_lag_bounds_leave_out_steps_between_users_and_unknown_times(monkeypatch):
    monkeypatch.setattr(flr_model.ranking.lags, "LAGS_PER_BUCKET", 1)
    user, time = np.asarray([0, 0, 0, 1, 1]), np.asarray([0, 100, 107, 900, 907])
    assert set(lag_bounds(user, time).tolist()) == {0, 7}
    assert lag_bounds(user[:1], time[:1]).tolist() == [0]


def test_items_too_far_apart_are_no_pair():
    furthest = BUCKETS[-1]
    long = rows_of({"u": [(item, item + 1) for item in range(furthest + 2)]}, max_history=20)
    events = PairEvents.count(long, furthest + 2)
    pairs = set(zip(events.source.tolist(), events.neighbour.tolist(), strict=True))
    assert (0, furthest) in pairs
    assert (0, furthest + 1) not in pairs


@pytest.mark.parametrize(("limit", "window"), [(0, 1), (18, 1), (59, 3), (60, 4), (90, 9)])
def test_the_window_ends_before_there_are_too_many_events(monkeypatch, limit, window):
    monkeypatch.setattr(
        flr_model.ranking.pair_events, "MAX_EVENTS", limit
    )  # ten interactions make 18 + 16 + 14 + 12 + ... events
    events = PairEvents.count(rows_of({"u": [(item, item + 1) for item in range(10)]}, max_history=20), 10)
    assert (events.neighbour - events.source).max() == window


def test_an_event_takes_few_bytes_and_not_many_more_while_it_is_counted():
    items = np.random.default_rng(0).integers(1000, size=(20, 1001))
    rows = HistoryRows.from_lists(items[:, :-1].tolist(), target=items[:, -1].tolist())
    tracemalloc.start()
    events = PairEvents.count(rows, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = (events.event_pair, events.event_channel, events.by_user)
    assert sum(array.nbytes for array in kept) == 12 * len(events.event_pair)
    assert peak < 50 * len(events.event_pair)


def test_an_item_is_no_pair_with_itself():
    events = PairEvents.count(rows_of({"u": [(0, 1), (0, 2), (1, 3)]}), 2)
    assert set(zip(events.source.tolist(), events.neighbour.tolist(), strict=True)) == {(0, 1), (1, 0)}


@pytest.mark.parametrize("rows", [HistoryRows.from_lists([]), HistoryRows.from_lists([[]], target=[0])])
def test_rows_without_pairs_count_nothing(rows):
    events = PairEvents.count(rows, 2)
    assert len(events.event_pair) == 0
    assert events.indptr.tolist() == [0, 0, 0]


def test_own_events_are_those_of_the_rows_user_that_start_in_its_history():
    events = PairEvents.count(ROWS, 4)
    found = events.own(ROWS.select(slice(0, 1)))  # Ann's history is item 0
    assert [(int(events.source[p]), int(events.neighbour[p])) for p in found.pair] == [(0, 1)]
    assert found.entry.tolist() == [0]
    assert found.channel.tolist() == [1]  # after, one step, of the shortest lag
    assert len(events.own(HistoryRows.from_lists([[0]], user_id=["cid"])).pair) == 0


def test_own_events_of_many_users_are_all_of_them_and_nobody_elses():
    rng = np.random.default_rng(0)
    sequences = {f"u{user}": [(int(item), t) for t, item in enumerate(rng.integers(0, 30, 12))] for user in range(20)}
    rows = rows_of(sequences)
    events = PairEvents.count(rows, 30)
    found = events.own(rows)
    expected = []
    for entry, (row, item) in enumerate(zip(rows.row_of_item(), rows.items, strict=True)):
        user = events.users[rows.user_id[row]]
        for event in events.by_user[events.first_of_user[user] : events.first_of_user[user + 1]]:
            pair = events.event_pair[event]
            if events.source[pair] == item:
                expected.append((entry, int(pair), int(events.event_channel[event])))
    assert sorted(zip(*(part.tolist() for part in found), strict=True)) == sorted(expected)
    assert len(expected) > len(rows)


def test_counts_are_those_worked_out_by_hand(evidence):
    rows = HistoryRows.from_lists([[0, 1], [0], [2]])
    weights = np.asarray([[[0.125, 3], [1, 0]], [[9, 3], [9, 0.5]], [[9, 1], [9, 1]]], np.float32)  # 9 where nothing is
    expected = np.zeros((3, 4, 2))
    expected[0, 1] = 10 * math.log1p(2 * 0.125 * 2), math.log1p(1)
    expected[0, 3] = 10 * math.log1p(2 * (3 * 1 + 0.125 * 0.5)), 0
    expected[1, 1], expected[1, 3] = (10 * math.log1p(2 * 3 * 2), math.log1p(0.5)), (10 * math.log1p(2 * 3 * 0.5), 0)
    np.testing.assert_allclose(dense(evidence.counts(rows, weights), 3, 4), expected, rtol=1e-6)


def test_each_place_comes_once_and_in_order(evidence, table):
    if table:
        pytest.skip("a table has all places")
    rows = HistoryRows.from_lists([[0, 1], [1], [0, 0]])
    found = evidence.counts(rows, ones(rows))
    assert list(zip(found.row.tolist(), found.item.tolist(), strict=True)) == [(0, 1), (0, 3), (1, 3), (2, 1), (2, 3)]
    np.testing.assert_allclose(found.value[3], [10 * math.log1p(2 * 4), math.log1p(2)], rtol=1e-6)  # item 0, twice


def test_of_histories_without_times_only_the_newest_item_has_no_lag(evidence):
    rows = HistoryRows.from_lists([[0, 1], []])
    assert history_lags(rows, evidence.lag_bounds).tolist() == [1, 0]


def test_padded_histories_hold_the_newest_items_and_their_lags(evidence):
    rows = HistoryRows.from_lists([[0, 1, 2], [3]], times=[[1, 15, 20], [7]])
    found = PaddedHistories.of(rows, 2, evidence.lag_bounds)
    assert found.items.tolist() == [[1, 2], [-1, 3]]
    assert found.lags.tolist() == [[1, 0], [0, 0]]
    assert PaddedHistories.of(rows, 3, evidence.lag_bounds).lags.tolist() == [[2, 1, 0], [0, 0, 0]]


def test_items_older_than_the_weights_count_nothing(evidence):
    rows = HistoryRows.from_lists([[0, 2, 2]])
    assert not dense(evidence.counts(rows, ones(rows)), 1, 4).any()
    assert np.flatnonzero(dense(evidence.counts(rows, ones(rows, 3)), 1, 4)[0, :, 0]).tolist() == [1, 3]


def test_logits_are_found_where_they_are_and_zero_elsewhere(evidence):
    rows = HistoryRows.from_lists([[0, 1], [1], [2]])
    found = evidence.counts(rows, ones(rows))
    row, item = (part.ravel() for part in np.indices((3, 4)))
    expected = dense(found, 3, 4)
    np.testing.assert_array_equal(found.at(row, item, 4).reshape(3, 4, 2), expected)
    for start in range(4):  # blocks of two items, the last of one
        block = np.zeros((3, 2, min(2, 4 - start)), np.float32)
        found.add_to(block, start)
        np.testing.assert_array_equal(block.transpose(0, 2, 1), expected[:, start : start + 2])
    for row_of_items, logits in zip(found.items(3), expected, strict=True):
        assert set(np.flatnonzero(logits.any(1))) <= set(row_of_items.tolist())
    none = evidence.counts(rows.select(slice(2, 3)), ones([0]))
    assert none.at(np.zeros(2, np.int64), np.asarray([1, 3]), 4).tolist() == [[0, 0], [0, 0]]


def test_values_of_pairs_are_found_and_zero_where_no_pair_is(evidence):
    source, neighbour = (part.ravel() for part in np.indices((4, 4)))
    found = evidence.pair_values(source, neighbour).reshape(4, 4, 2)
    expected = np.zeros((4, 4, 2))
    expected[0, 1], expected[0, 3], expected[1, 3] = (2, 1), (0.5, 0), (1, 3)
    np.testing.assert_array_equal(found, expected)
    empty = no_evidence(2, 2)
    assert empty.pair_values(np.asarray([0, 1]), np.asarray([1, 0])).tolist() == [[0, 0], [0, 0]]


def test_new_items_were_never_counted_and_change_nothing(evidence):
    rows = HistoryRows.from_lists([[0, 1], [0]])
    wider = evidence.extended(2)
    assert wider.n_items == 6
    found, before = dense(wider.counts(rows, ones(rows)), 2, 6), dense(evidence.counts(rows, ones(rows)), 2, 4)
    np.testing.assert_array_equal(found, np.pad(before, [(0, 0), (0, 2), (0, 0)]))
    new = dense(wider.counts(HistoryRows.from_lists([[5, 0]]), ones([0])), 1, 6)
    assert np.flatnonzero(new[0, :, 0]).tolist() == [1, 3]
    assert wider.pair_values(np.asarray([5]), np.asarray([1])).tolist() == [[0, 0]]


def test_written_and_read_it_is_the_same(evidence, tmp_path):
    evidence.write(tmp_path / "evidence.npz")
    copy = Evidence.read(tmp_path / "evidence.npz")
    for name, value in vars(evidence).items():
        np.testing.assert_array_equal(getattr(copy, name), value)
    assert isinstance(copy.seen, float)


def test_what_another_version_wrote_is_refused(tmp_path):
    np.savez(tmp_path / "evidence.npz", indptr=np.zeros(2, np.int64), same_time=1.0)
    with pytest.raises(ArtifactError, match="written by another version"):
        Evidence.read(tmp_path / "evidence.npz")


@pytest.mark.parametrize("dense_keys", [0, 10**9])
def test_all_ways_to_sum_agree(evidence, monkeypatch, dense_keys):
    rows = HistoryRows.from_lists([[0, 1], [0], [2], []])
    weights = np.random.default_rng(0).random((4, 2, 3)).astype(np.float32)
    expected = dense(evidence.counts(rows, weights), 4, 4)
    monkeypatch.setattr("flr_model.ranking.evidence.TABLE_SHARE", 0)
    monkeypatch.setattr("flr_model.ranking.evidence.DENSE_KEYS", dense_keys)
    np.testing.assert_allclose(dense(evidence.counts(rows, weights), 4, 4), expected, rtol=1e-6)


def test_a_table_is_read_where_many_pairs_were_met_and_it_is_small(monkeypatch):
    monkeypatch.setattr("flr_model.ranking.evidence.TABLE_SHARE", 4)
    assert fits_table(2_500, 100, 4)
    assert not fits_table(2_499, 100, 4)
    assert not fits_table(10**8, 10_000, 4)
