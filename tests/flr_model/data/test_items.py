import numpy as np
import pytest

from flr_model import columns
from flr_model.data.items import build_catalog, junk_titles, open_items, read_items
from flr_model.errors import DataError
from flr_model.files.reading import Reading


def _ids(*values):
    return np.asarray(values, object)


def _file(tmp_path, text, name="items.csv", names=None, known=()):
    path = tmp_path / name
    path.write_text(text)
    reading = Reading(names=names or {})
    return read_items(open_items(path, reading), reading, _ids(*known))


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


def test_a_title_column_without_titles_is_an_error_of_its_own(tmp_path):
    with pytest.raises(DataError, match="the title column is empty in all of its 2 rows") as caught:
        build_catalog(_file(tmp_path, "item_id,title,label\na,,A\nb,,B\n"), _ids("a", "b"))
    assert "--title-col" in caught.value.hint


def test_item_column_of_the_interactions_need_not_be_that_of_the_items(tmp_path):
    assert _file(tmp_path, "item_id,title\na,A\n", names={columns.ITEM: "sku"}).item_ids.tolist() == ["a"]


INFO = '"Heroes (2017 Remaster)\t{0}\n"Heroes" Deluxe\t{1}\nHits, Vol. 2\t{2}\n'
TITLES = ['"Heroes (2017 Remaster)', '"Heroes" Deluxe', "Hits, Vol. 2"]


@pytest.mark.parametrize("ids", [["7", "8", "9"], ["B00A7", "B00A8", "B00A9"], ["x", "y", "z"]])
def test_titles_and_ids_without_header_are_told_apart_by_the_known_ids(tmp_path, ids):
    file = _file(tmp_path, INFO.format(*ids), "info.txt", known=[ids[2], ids[0]])
    assert file.item_ids.tolist() == ids
    assert file.titles.tolist() == TITLES


def test_an_unknown_first_item_is_no_header(tmp_path):
    assert _file(tmp_path, INFO.format("B1", "B2", "B3"), known=["B2"]).item_ids.tolist() == ["B1", "B2", "B3"]


def test_ids_and_titles_with_commas_and_no_header_are_told_apart(tmp_path):
    file = _file(tmp_path, 'B1,"One, two"\nB2,"Three"\n', known=["B1"])
    assert dict(zip(file.item_ids, file.titles, strict=True)) == {"B1": "One, two", "B2": "Three"}


def test_two_columns_with_unknown_names_keep_their_header(tmp_path):
    file = _file(tmp_path, 'code\tlabel\nB1\t"The ""two"" of"\n', known=["B1"])
    assert dict(zip(file.item_ids, file.titles, strict=True)) == {"B1": 'The "two" of'}
    assert _file(tmp_path, "sku,name it\nB1,One\n", names={columns.TITLE: "name it", columns.ITEM: "sku"}).titles == [
        "One"
    ]


def test_columns_without_names_may_be_numbered(tmp_path):
    names = {columns.ITEM: "2", columns.TITLE: "1"}
    assert _file(tmp_path, INFO.format("B1", "B2", "B3"), names=names).titles.tolist() == TITLES


def test_a_title_column_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no column 'label' \(--title-col\)"):
        _file(tmp_path, INFO.format(1, 2, 3), names={columns.TITLE: "label"}, known=["1"])


def test_one_column_that_is_to_be_the_titles_leaves_none_for_the_ids(tmp_path):
    with pytest.raises(DataError, match="has no item_id column"):
        _file(tmp_path, "x1\nx2\n", names={columns.TITLE: "1"}, known=["x1"])


def test_two_columns_without_known_ids_are_refused_with_the_flags_that_help(tmp_path):
    with pytest.raises(
        DataError, match="neither of its two columns has the ids of the interactions, such as 'q'"
    ) as caught:
        _file(tmp_path, INFO.format(1, 2, 3), known=["q"])
    assert "--item-col items=2 --title-col items=1" in caught.value.hint


def test_repeated_product_of_json_metadata_counts_once(tmp_path):
    line = '{"asin": "B1", "title": "One"}\n'
    assert _file(tmp_path, line + line + '{"asin": "B2", "title": "Two"}\n').item_ids.tolist() == ["B1", "B2"]


def test_repeated_id_with_another_title_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"1 item id more than once in the file \('B1' again in line 2\)"):
        _file(tmp_path, '{"asin": "B1", "title": "One"}\n{"asin": "B1", "title": "Two"}\n')


def test_junk_titles_are_scraps_of_html():
    titles = ['<span class="a-size-medium', "I <3 you", "<b>Bold</b>", "A < B", "var a = (new Date()).getTime();", ""]
    assert junk_titles(_ids(*titles)).tolist() == [True, False, True, False, True, False]
