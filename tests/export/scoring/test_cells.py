import doctest

import pytest

from export.scoring import cells
from export.scoring.cells import as_id, parse_list


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', \"it's\"]", ["a", "it's"]),
        ("(1, 2)", ["1", "2"]),
        ("[5145.0, null]", ["5145"]),
        ("a|b c", ["a", "b c"]),
        ("a; b", ["a", "b"]),
        ("a  b\tc", ["a", "b", "c"]),
        ("a", ["a"]),
        ("[]", []),
        ("  ", []),
        (None, []),
        ([7, "x"], ["7", "x"]),
    ],
)
def test_lists_of_ids_are_read_in_every_usual_spelling(cell, expected):
    assert parse_list(cell) == expected


@pytest.mark.parametrize("cell", ["[1, 2", "[1 2]", "[[1], [2]]", "['a', f()]", "[" * 5000, '["a", {"b": 1}]', 3])
def test_what_begins_like_a_list_and_is_none_is_refused(cell):
    with pytest.raises(ValueError, match="not a list"):
        parse_list(cell)


def test_ids_of_any_type_become_text():
    assert [as_id(value) for value in (7, 7.0, 7.5, " x ", None, float("nan"), "null")] == [
        "7",
        "7",
        "7.5",
        "x",
        "",
        "",
        "",
    ]


def test_examples_in_docstrings_are_right():
    assert doctest.testmod(cells).failed == 0
