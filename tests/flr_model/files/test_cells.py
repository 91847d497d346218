import doctest
from decimal import Decimal

import pytest

from flr_model.files import cells
from flr_model.files.cells import CellError, as_id, as_text, find_separator, parse_list


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', \"it's\"]", ["a", "it's"]),
        ("(1, 2)", ["1", "2"]),
        ("[5145.0, null]", ["5145", ""]),
        ("a|b c", ["a", "b c"]),
        ("a; b", ["a", "b"]),
        ("a  b\tc", ["a", "b", "c"]),
        ("a", ["a"]),
        ("[]", []),
        ("  ", []),
        (None, []),
        ([7, "x"], ["7", "x"]),
        (3, ["3"]),
        ("3", ["3"]),
        ("['3' '6']", ["3", "6"]),
        ("['3'\n '6']", ["3", "6"]),
        ("[1 2]", ["1", "2"]),
        ("[a, b]", ["a", "b"]),
        ("{a,b}", ["a", "b"]),
        ("['a b' 'c']", ["a b", "c"]),
        (r"['it\'s', 'x']", ["it's", "x"]),
        ("['a','nan']", ["a", ""]),
        ('["a|b", "c"]', ["a|b", "c"]),
    ],
)
def test_lists_of_ids_are_read_in_every_usual_spelling(cell, expected):
    assert parse_list(cell) == expected


@pytest.mark.fault("other meaning")
@pytest.mark.parametrize(
    "cell",
    ["[1, 2", "[1 2 ... 9]", "['a' 'b', 'c']", "[[1], [2]]", {"id": 1}, "['a', f()]", "[" * 5000, '["a", {"b": 1}]'],
)
def test_what_begins_like_a_list_and_is_none_is_refused(cell):
    with pytest.raises(ValueError, match=r"list|an id is"):
        parse_list(cell)


@pytest.mark.fault("other meaning")
@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ((7, 7.0, "7", "7.0", " 7 ", "7.00", b"7", Decimal("7.0")), "7"),
        ((7.5, "7.5"), "7.5"),
        (("07",), "07"),
        (("a|b",), "a|b"),
        ((None, float("nan"), "", " ", "nan", "null", "NULL", "None", "<NA>", r"\N"), ""),
        ((True, "True"), "True"),
        ((float("inf"), "inf"), "inf"),
    ],
)
def test_an_id_has_one_spelling_whatever_type_the_file_gave_it(cells, expected):
    assert {as_id(cell) for cell in cells} == {expected}


@pytest.mark.fault("other meaning")
@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (["a"], "a list"),
        ("['a', 'b']", "a list"),
        ({"id": "a"}, "a record"),
        (1e19, "too large"),
        ("1.23457E+12", "a spreadsheet shortened"),
        ("a\nb", "a quote is not closed"),
        (b"\xe9", "not UTF-8"),
    ],
)
def test_what_cannot_be_an_id_is_refused(cell, message):
    with pytest.raises(CellError, match=message):
        as_id(cell)


def test_texts_are_stripped_and_missing_is_empty():
    assert [as_text(cell) for cell in (" x ", None, "nan", 5, b"y")] == ["x", "", "", "5", "y"]
    with pytest.raises(CellError, match="a title is a list"):
        as_text(["x"])


def test_the_separator_of_most_longer_cells_is_that_of_the_column():
    assert find_separator(["Blue Train|Kind of Blue", "Blue Train", "x|y"]) == "|"
    assert parse_list("Blue Train", "|") == ["Blue Train"]
    assert find_separator(["a b", "c d", "e|f"]) is None
    assert find_separator(["['a', 'b']", "x"]) is None


def test_examples_in_docstrings_are_right():
    assert doctest.testmod(cells).failed == 0
