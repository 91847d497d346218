import numpy as np
import pytest

from flr_model.data.catalog import Catalog
from flr_model.errors import DataError


def catalog(ids, titles):
    return Catalog(np.asarray(ids, object), np.asarray(titles, object))


def test_ids_have_the_position_of_their_row_and_unknown_ones_have_none(tiny_catalog):
    assert len(tiny_catalog) == 60
    assert tiny_catalog.positions(["i3", "nowhere", "i0"]).tolist() == [3, -1, 0]
    assert tiny_catalog.positions([]).tolist() == []


def test_an_id_that_occurs_twice_is_an_error_with_examples():
    with pytest.raises(DataError, match="2 item ids occur more than once, for instance a, b"):
        catalog(["a", "b", "a", "b", "c"], list("ABCDE"))


def test_ids_and_titles_of_different_number_are_an_error():
    with pytest.raises(DataError, match="2 item ids but 1 titles"):
        catalog(["a", "b"], ["A"])


def test_new_items_come_behind_and_old_ones_stay():
    longer = catalog(["a", "b"], ["A", "B"]).extended(["c"], ["C"])
    assert longer.positions(["a", "b", "c"]).tolist() == [0, 1, 2]
    assert longer.titles.tolist() == ["A", "B", "C"]


def test_a_new_item_with_a_known_id_is_an_error():
    with pytest.raises(DataError, match="1 item ids occur more than once, for instance a"):
        catalog(["a"], ["A"]).extended(["a"], ["other"])


def test_written_and_read_it_is_the_same_whatever_ids_and_titles_hold(tmp_path):
    before = catalog(["007", "1e3", "ü", "nan"], ["", 'a,b\n"c"', "Zoë <|im_end|>", "None"])
    before.write(tmp_path / "items.parquet")
    after = Catalog.read(tmp_path / "items.parquet")
    assert after.item_ids.tolist() == before.item_ids.tolist()
    assert after.titles.tolist() == before.titles.tolist()
