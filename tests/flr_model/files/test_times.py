import datetime
import doctest

import numpy as np
import pyarrow as pa
import pytest

from flr_model.files import times
from flr_model.files.times import parse_time
from flr_model.files.values import as_times


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("12.5", 12.5),
        (1_577_836_800_000, 1_577_836_800.0),
        ("1577836800000000", 1_577_836_800.0),
        (7, 7.0),
        ("1970-01-02", 86400.0),
        ("1970-01-01 00:01", 60.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01 01:30:00 -0130", 10800.0),
        ("1970/01/02", 86400.0),
        ("1970.1.2", 86400.0),
        ("1970-02", 31 * 86400.0),
        ("1970-1-2 9:05:01.5Z", 86400.0 + 9 * 3600 + 301.5),
        ("9999-12-31", 253402214400.0),
        (datetime.date(1970, 1, 2), 86400.0),
        (datetime.datetime(1970, 1, 1, 0, 0, 1), 1.0),
    ],
)
def test_times_are_seconds_of_utc(value, seconds):
    assert parse_time(value) == seconds


@pytest.mark.parametrize(
    "value", ["", "soon", "nan", "inf", None, float("nan"), "03/04/2020", "2020-13-01", "2020-01/02", "1e19"]
)
def test_what_is_no_time_is_refused(value):
    with pytest.raises(ValueError):
        parse_time(value)


@pytest.mark.parametrize(
    "cells",
    [
        ["2020/09/13", "2018-11", "2018-1-5", "1577836800", "2020-01-01T10:00:00.5+02:00", "9999-12-31"],
        ["1443744000", "1443744000000", "1443744000000000", "1443744000000000000", "-5", "99999999999", "1e14"],
        [1443744000, 1443744000000, 1443744000000000, 0, -1],
        [1443744000.25, 1.443744e12, None],
        ["soon", "", "1e19", "nan", None],
    ],
)
def test_a_column_of_times_is_read_as_each_of_its_cells(cells):
    def ticks(cell):
        try:
            return round(parse_time(cell) * 1e6)
        except ValueError:
            return None

    read, bad = as_times(pa.chunked_array([pa.array(cells)]))
    assert [None if wrong else tick for tick, wrong in zip(read.tolist(), bad, strict=True)] == [*map(ticks, cells)]
    assert read[np.flatnonzero(bad)].tolist() == [0] * bad.sum()


def test_examples_in_docstrings_are_right():
    assert doctest.testmod(times).failed == 0
