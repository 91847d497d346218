import datetime
import doctest

import pytest

from flr_model.files import times
from flr_model.files.times import AmbiguousTimesError, TimeRule


def parse_time(cell):
    return TimeRule().seconds(cell)


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
    "value",
    [
        "",
        "soon",
        "nan",
        "inf",
        None,
        float("nan"),
        "03/04/2020",
        "2020-13-01",
        "2020-01/02",
        "1e19",
        [5],
        True,
        b"5",
        datetime.timedelta(1),
        "31.02.2020",
        "2020-01-01 10:00 CET",
    ],
)
def test_what_is_no_time_is_refused(value):
    with pytest.raises(ValueError):
        parse_time(value)


@pytest.mark.parametrize(
    "cell",
    [
        1443744000,
        1443744000000,
        1443744000000000,
        1443744000.0,
        "1443744000",
        "1443744000000",
        "2015-10-02",
        "2015-10-02T00:00:00Z",
        "2015-10-02 02:00:00+02:00",
        "2015-10-02 00:00:00 UTC",
        "02.10.2015",
        "2.10.2015 00:00",
        "02-Oct-2015",
        "2 October 2015",
        "Fri, 02 Oct 2015 00:00:00 +0000",
        "Oct 2, 2015",
        "20151002000000",
        datetime.date(2015, 10, 2),
        datetime.datetime(2015, 10, 2),
    ],
)
def test_times_that_can_be_read_in_one_way_only_are_the_same_moment(cell):
    assert TimeRule.find([cell]).ticks(cell) == 1443744000 * 10**6
    assert parse_time(cell) == 1443744000


def test_fractions_of_a_second_keep_their_order():
    assert [TimeRule().ticks(cell) for cell in ("1443744000.25", "1443744000.75")] == [
        1443744000250000,
        1443744000750000,
    ]


@pytest.mark.fault("other meaning")
@pytest.mark.parametrize(
    ("cells", "cell", "moment"),
    [
        (["1/2/2020", "13/2/2020"], "1/2/2020", "2020-02-01"),
        (["1/2/2020", "2/13/2020"], "1/2/2020 3:05 PM", "2020-01-02 15:05"),
        (["soon", None, "01-12-2020", "31-12-2020 23:59"], "01-12-2020", "2020-12-01"),
        (["20210130", "", "20210201"], "20210131", "2021-01-31"),
        ([20210130, 20210201], 20210131.0, "2021-01-31"),
        ([1, 2, 50_000], 86400, "1970-01-02"),
    ],
)
def test_the_column_tells_what_a_cell_alone_does_not(cells, cell, moment):
    assert TimeRule.find(cells).seconds(cell) == parse_time(moment)


@pytest.mark.fault("other meaning")
@pytest.mark.parametrize("cells", [["1/2/2020", "3/4/2020"], ["44227.25", "44228"], [2015, 2016], ["5-6-2020"]])
def test_a_column_that_does_not_tell_is_refused(cells):
    with pytest.raises(AmbiguousTimesError):
        TimeRule.find(cells)


@pytest.mark.parametrize(
    ("name", "cell", "moment"),
    [
        ("excel", "44227.25", "2021-01-31 06:00"),
        ("day-first", "1/2/2020", "2020-02-01"),
        ("month-first", "1/2/2020", "2020-01-02"),
        ("yyyymmdd", 20210131, "2021-01-31"),
        ("seconds", "20210131", "1970-08-22 21:55:31"),
        ("milliseconds", "86400000", "1970-01-02"),
        ("%d.%m.%y", "31.01.21", "2021-01-31"),
        ("%Y", 2015.0, "2015-01-01"),
    ],
)
def test_a_format_that_is_named_settles_it(name, cell, moment):
    assert TimeRule(name).seconds(cell) == parse_time(moment)


def test_examples_in_docstrings_are_right():
    assert doctest.testmod(times).failed == 0
