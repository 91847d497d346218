import itertools
import threading
from contextlib import closing

import pytest

from flr_export.scoring.prefetch import prefetch


def test_items_come_in_order():
    assert list(prefetch(prefetch(iter(range(20)), depth=1))) == list(range(20))


def test_error_of_the_source_comes_after_the_items_before_it():
    def source():
        yield 1
        raise KeyError("x")

    stream = prefetch(source())
    assert next(stream) == 1
    with pytest.raises(KeyError, match="x"):
        next(stream)


def test_closing_stops_every_thread_and_the_sources():
    closed = []

    def source():
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    before = threading.active_count()
    with closing(prefetch(prefetch(source()))) as stream:
        assert next(stream) == 0
    assert threading.active_count() == before
    assert closed == [True]


def test_source_runs_only_a_few_items_ahead():
    made = []
    with closing(prefetch(map(made.append, itertools.count()), depth=2)) as stream:
        next(stream)
        threading.Event().wait(0.05)
    assert len(made) <= 5
