import numpy as np
import pytest

from flr_export.scoring.batching import MOST_POSITIONS, BatchLimit, batches


@pytest.mark.parametrize("positions", [1, 10, 64, 10_000])
def test_batches_hold_everybody_once_and_few_positions(positions):
    lengths = np.random.default_rng(0).integers(1, 21, 500)
    parts = list(batches(lengths, positions))
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    for part in parts:
        assert len(part) == 1 or len(part) * lengths[part].max() <= positions


def test_users_of_like_length_go_together_so_that_little_is_padding():
    lengths = np.random.default_rng(0).integers(1, 21, 2000)
    places = sum(len(part) * lengths[part].max() for part in batches(lengths, 512))
    assert places < 1.05 * lengths.sum()


def test_nobody_needs_no_batch():
    assert list(batches(np.zeros(0, np.int64), 8)) == []


def test_on_a_cpu_the_limit_stays():
    limit = BatchLimit(100)
    limit.record(100, 1.0)
    assert limit.positions == 100


def test_a_growing_limit_doubles_while_positions_get_cheaper():
    limit = BatchLimit(100, grows=True)
    limit.record(100, 1.0)
    limit.record(40, 0.1)  # a half-empty batch says nothing
    assert limit.positions == 200
    limit.record(200, 1.5)
    assert limit.positions == 400
    limit.record(400, 2.98)  # .00745 a position after .0075: it no longer pays
    limit.record(400, 0.1)
    assert limit.positions == 400


def test_a_growing_limit_ends_somewhere():
    limit = BatchLimit(MOST_POSITIONS, grows=True)
    limit.record(MOST_POSITIONS, 1.0)
    assert limit.positions == MOST_POSITIONS


def test_the_limit_is_halved_when_memory_is_short_and_grows_no_more():
    limit = BatchLimit(100, grows=True)
    limit.shrink(100)
    limit.record(50, 0.001)
    assert limit.positions == 50
    limit.shrink(1)
    assert limit.positions == 1
