import numpy as np
import pytest

from flr_model import columns
from flr_model.data.items import build_catalog, junk_titles, read_items
from flr_model.errors import DataError


def _ids(*values):
    return np.asarray(values, object)


def _file(tmp_path, text, name="items.csv"):
    path = tmp_path / name
    path.write_text(text)
    return read_items(path, {})


def test_catalog_keeps_unused_items_and_the_order_of_the_file(tmp_path):
    catalog, untitled = build_catalog(_file(tmp_path, "item_id,title\nb,B\na,A\nc,C\n"), _ids("a", "b"))
    assert catalog.item_ids.tolist() == ["b", "a", "c"]
    assert catalog.titles.tolist() == ["B", "A", "C"]
    assert untitled == 0


def test_items_without_title_are_called_by_their_id(tmp_path):
    file = _file(tmp_path, "item_id,title\na,A\nb,\nc,C\nd,D\n")
    catalog, untitled = build_catalog(file, _ids("a", "b", "c", "d", "e"))
    assert catalog.item_ids.tolist() == ["a", "b", "c", "d", "e"]
    assert catalog.titles.tolist() == ["A", "b", "C", "D", "e"]
    assert untitled == 2


def test_catalog_of_used_items_only(tmp_path):
    catalog, _ = build_catalog(_file(tmp_path, "item_id,title\na,A\nb,B\nc,C\n"), _ids("c", "a"), only_used=True)
    assert catalog.item_ids.tolist() == ["a", "c"]


def test_most_items_without_title_is_an_error_showing_ids_of_both_files(tmp_path):
    file = _file(tmp_path, "item_id,title\nB01,A\nB02,B\n")
    with pytest.raises(
        DataError,
        match=r"no title for 2 of the 3 items of the interactions, for instance '1', '2'; .* like 'B01', 'B02'",
    ):
        build_catalog(file, _ids("B01", "1", "2"))


def test_item_column_of_the_interactions_need_not_be_that_of_the_items(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item_id,title\na,A\n")
    assert read_items(path, {columns.ITEM: "sku"}).item_ids.tolist() == ["a"]


def test_repeated_product_of_json_metadata_counts_once(tmp_path):
    line = '{"asin": "B1", "title": "One"}\n'
    assert _file(tmp_path, line + line + '{"asin": "B2", "title": "Two"}\n').item_ids.tolist() == ["B1", "B2"]


def test_repeated_id_with_another_title_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"1 item id more than once in the file \('B1' again in line 2\)"):
        _file(tmp_path, '{"asin": "B1", "title": "One"}\n{"asin": "B1", "title": "Two"}\n')


def test_junk_titles_are_scraps_of_html():
    titles = ['<span class="a-size-medium', "I <3 you", "<b>Bold</b>", "A < B", "var a = (new Date()).getTime();", ""]
    assert junk_titles(_ids(*titles)).tolist() == [True, False, True, False, True, False]
