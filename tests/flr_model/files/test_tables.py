import gzip
import json

import pandas as pd
import pytest

from flr_model import columns
from flr_model.errors import DataError
from flr_model.files.csvfile import CsvFile
from flr_model.files.tables import find_columns, open_table


def _rows(path, *names):
    table = open_table(path)
    return table.read(names or table.names).to_pylist()


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_delimiter_is_sniffed(tmp_path, delimiter):
    path = tmp_path / "file.txt"
    path.write_text(f"user_id{delimiter}item_id\nu{delimiter}i\n")
    assert _rows(path) == [{"user_id": "u", "item_id": "i"}]


def test_delimiter_is_not_taken_from_titles(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item_id;title\n1;One, two, three\n2;Four, five\n")
    assert _rows(path, "title") == [{"title": "One, two, three"}, {"title": "Four, five"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encoding_is_found(tmp_path, encoding):
    path = tmp_path / "items.csv"
    path.write_bytes("item_id,title\n1,Amélie\n".encode(encoding))
    assert _rows(path) == [{"item_id": "1", "title": "Amélie"}]


def test_gzip_is_known_by_content_not_by_name(tmp_path):
    path = tmp_path / "items.csv"
    path.write_bytes(gzip.compress(b"item_id,title\n1,One\n"))
    assert _rows(path) == [{"item_id": "1", "title": "One"}]


def test_file_without_header_has_numbered_columns(tmp_path):
    path = tmp_path / "u.data"
    path.write_text("196\t242\t3\t881250949\n186\t302\t3\t891717742\n")
    table = open_table(path)
    assert table.names == ("1", "2", "3", "4")
    assert table.read(["1"])["1"].to_pylist() == ["196", "186"]
    assert find_columns(table, (columns.USER, columns.ITEM), given={columns.USER: "1", columns.ITEM: "2"}) == {
        columns.USER: "1",
        columns.ITEM: "2",
    }


def test_recbole_header_loses_its_types_and_quotes_are_plain(tmp_path):
    path = tmp_path / "x.item"
    path.write_text('item_id:token\tmovie_title:token_seq\n1\t"Heroes"\n2\tHalf " quote\n')
    assert _rows(path, "movie_title") == [{"movie_title": '"Heroes"'}, {"movie_title": 'Half " quote'}]


def test_parquet_is_read(tmp_path):
    path = tmp_path / "items.parquet"
    pd.DataFrame({"item_id": [1, 2], "title": ["One", "Two"]}).to_parquet(path)
    assert _rows(path, "title") == [{"title": "One"}, {"title": "Two"}]


def test_json_lines_and_python_dictionaries_are_read(tmp_path):
    path = tmp_path / "meta.json"
    path.write_text(json.dumps({"asin": "B1", "title": "It's"}) + "\n\n" + str({"asin": "B2", "price": 1.5}) + "\n")
    assert _rows(path, "asin", "title") == [{"asin": "B1", "title": "It's"}, {"asin": "B2", "title": None}]


def test_json_is_never_evaluated(tmp_path):
    path = tmp_path / "meta.json"
    path.write_text('{"asin": "B1"}\n{"asin": __import__("os").getcwd()}\n')
    with pytest.raises(DataError, match=r"no JSON object in 1 line \(2\)"):
        _rows(path, "asin")


def test_amazon_2023_items_are_parent_asins(tmp_path):
    path = tmp_path / "reviews.jsonl"
    path.write_text('{"asin": "A", "parent_asin": "P", "user_id": "u", "timestamp": 1588615855070, "title": "Good"}\n')
    assert find_columns(open_table(path), (columns.USER, columns.ITEM, columns.TIME)) == {
        columns.USER: "user_id",
        columns.ITEM: "parent_asin",
        columns.TIME: "timestamp",
    }


def test_missing_columns_are_named_together_with_the_nearest(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("usr,itm,when\na,b,1\n")
    with pytest.raises(DataError) as caught:
        find_columns(open_table(path), (columns.USER, columns.ITEM))
    assert "no user_id column, did you mean 'usr'?; has no item_id column" in caught.value.message
    assert "'usr', 'itm', 'when'" in caught.value.message
    assert "--user-col" in caught.value.hint


def test_given_column_that_is_absent_is_an_error_with_its_flag(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,watched_at\na,b,1\n")
    with pytest.raises(DataError, match=r"no column 'watchedat' \(--time-col\), did you mean 'watched_at'"):
        find_columns(open_table(path), (columns.USER,), (columns.TIME,), {columns.TIME: "watchedat"})


def test_header_names_are_compared_loosely(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("User ID,Item-Id\na,b\n")
    assert find_columns(open_table(path), (columns.USER, columns.ITEM)) == {
        columns.USER: "User ID",
        columns.ITEM: "Item-Id",
    }


def test_rows_of_other_widths_are_counted_with_their_lines(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text('\nitem_id,title\n1,"One\nline"\n2,Two, three\n\n3,Four\n4\n')
    with pytest.raises(DataError, match=r"2 rows without the header's 2 cells \(line 5: 3, line 8: 1\)"):
        _rows(path)


def test_lines_of_rows_count_cells_over_several_lines(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text('item_id,title\n1,"One\nline"\n\n2,Two\n')
    assert CsvFile.open(path).lines([1, 0]) == ["line 5", "line 2"]


def test_cells_over_several_lines_are_pointed_out(tmp_path, caplog):
    path = tmp_path / "items.csv"
    path.write_text('item_id,title\n1,One\n2,"Two\n3,Three\n')
    _rows(path, "title")
    assert "1 cell over several lines (line 3); if that is not meant, a quote is not closed" in caplog.text


def test_half_a_surrogate_pair_is_no_text(tmp_path):
    path = tmp_path / "meta.jsonl"
    path.write_text('{"asin": "B1", "title": "Cut \\ud83d"}\n')
    assert _rows(path, "title") == [{"title": "Cut ?"}]


def test_json_array_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "items.json"
    path.write_text('[{"item_id": 1, "title": "One"}]')
    with pytest.raises(DataError, match="line 1 is not a JSON object"):
        open_table(path)


def test_quote_never_closed_in_a_large_file_is_an_error(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text('item_id,title\n1,"One\n' + "2,Two and some more words\n" * 1_500_000)
    with pytest.raises(DataError, match="cannot be parsed"):
        _rows(path, "title")
