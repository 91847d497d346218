import datetime

import pyarrow as pa
import pytest

from flr_model.files.values import as_ids, as_texts, as_times


def _column(values, kind=None):
    return pa.chunked_array([pa.array(values, kind)])


@pytest.mark.parametrize(
    ("cells", "ids"),
    [
        (["1", "2"], ["1", "2"]),
        (["01", "1"], ["01", "1"]),
        (["1.0", "2.0"], ["1", "2"]),
        (["1.0", "1.5"], ["1.0", "1.5"]),
        ([1, 2], ["1", "2"]),
        ([1.0, 2.0], ["1", "2"]),
        ([" a", "b "], ["a", "b"]),
    ],
)
def test_ids_are_strings_without_artefacts(cells, ids):
    codes, distinct = as_ids(_column(cells))
    assert codes.tolist() == [0, 1]
    assert distinct.tolist() == ids


def test_missing_ids_are_minus_one():
    codes, distinct = as_ids(_column(["a", "", None, "NaN", "a"]))
    assert codes.tolist() == [0, -1, -1, -1, 0]
    assert distinct.tolist() == ["a"]


def test_ids_that_differ_in_space_only_are_one():
    assert as_ids(_column(["a", " a"]))[0].tolist() == [0, 0]


def test_texts_are_stripped_and_missing_is_empty():
    assert as_texts(_column([" x ", None, "nan", "x"])).tolist() == ["x", "", "", "x"]


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
        datetime.date(2015, 10, 2),
        datetime.datetime(2015, 10, 2),
    ],
)
def test_times_in_every_accepted_form_are_the_same_moment(cell):
    times, bad = as_times(_column([cell]))
    assert times.tolist() == [1443744000 * 10**6]
    assert not bad.any()


def test_fractions_of_a_second_keep_their_order():
    times, _ = as_times(_column(["1443744000.25", "1443744000.75"]))
    assert times.tolist() == [1443744000250000, 1443744000750000]


def test_unreadable_times_are_marked():
    assert as_times(_column(["2015-10-02", "2015-10-03", "soon", ""]))[1].tolist() == [False, False, True, True]
    assert as_times(_column(["1", "2", "inf", None]))[1].tolist() == [False, False, True, True]
