import csv
import gzip
import json
import os

import pandas as pd
import pytest

from flr_model import columns
from flr_model.errors import DataError
from flr_model.files.header import find_columns
from flr_model.files.reading import Reading
from flr_model.files.tables import open_table


def _rows(path, *names, **known):
    table = open_table(path, Reading(**known))
    wanted = names or table.names
    rows = list(table.rows(wanted))
    assert not [row for row in rows if row.cells is None]
    return [dict(zip(wanted, row.cells, strict=True)) for row in rows]


def _problems(path, **known):
    table = open_table(path, Reading(**known))
    return [(row.line, row.problem) for row in table.rows(table.names) if row.cells is None]


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
    assert [row.cells for row in table.rows(["1"])] == [["196"], ["186"]]
    numbers = {columns.USER: "1", columns.ITEM: "2"}
    assert find_columns(table, (columns.USER, columns.ITEM), reading=Reading(names=numbers)) == numbers


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
    assert _problems(path) == [(2, "no JSON object")]


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
    reading = Reading(names={columns.TIME: "watchedatt"})
    with pytest.raises(DataError, match=r"no column 'watchedatt' \(--time-col\), did you mean 'watched_at'"):
        find_columns(open_table(path), (columns.USER,), (columns.TIME,), reading)


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
    assert _problems(path) == [(5, "3 cells instead of 2"), (8, "1 cells instead of 2")]


@pytest.mark.fault("other meaning")
@pytest.mark.parametrize(
    ("text", "lines", "titles"),
    [
        ('item_id,title\n1,"One\nline"\n\n2,Two\n', [], ["One\nline", "Two"]),
        ('item_id,title\n1,One\n2,"Two\n3,Three\n', [3], ["One", "Three"]),
        ('item_id,title\n1,"12 inch\n2,Two\n3,"6 inch\n4,Four\n', [2, 4], ["Two", "Four"]),
        ('item_id,x,title\n1,a,One\n2,b,"Two\n3,c,12"\n4,d,Four\n', [3], ["One", '12"', "Four"]),
        ('item_id,title\n1,"Say ""hi"""\n2,"Say \\"hi\\""\n', [], ['Say "hi"', 'Say "hi"']),
        ('item_id\ttitle\n1\t"Heroes" Deluxe\n', [], ['"Heroes" Deluxe']),
    ],
)
def test_a_quote_that_is_not_closed_costs_its_own_line_alone(tmp_path, text, lines, titles):
    path = tmp_path / "items.csv"
    path.write_text(text)
    rows = list(open_table(path).rows(["title"]))
    assert [row.line for row in rows if row.cells is None] == lines
    assert [row.cells[0] for row in rows if row.cells] == titles


def test_a_trailing_delimiter_in_every_row_is_no_cell(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item_id;title\n1;One;\n2;Two;\n")
    assert _rows(path, "title") == [{"title": "One"}, {"title": "Two"}]


def test_half_a_surrogate_pair_is_no_text(tmp_path):
    path = tmp_path / "meta.jsonl"
    path.write_text('{"asin": "B1", "title": "Cut \\ud83d"}\n')
    assert _rows(path, "title") == [{"title": "Cut ?"}]


@pytest.mark.parametrize("text", ["{}", "{}\n{}\n"])
def test_json_without_any_field_is_refused(tmp_path, text):
    (tmp_path / "items.json").write_text(text)
    with pytest.raises(DataError, match="has only empty objects"):
        open_table(tmp_path / "items.json")


def test_json_array_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "items.json"
    path.write_text('[{"item_id": 1, "title": "One"}]')
    with pytest.raises(DataError, match="line 1 is not a JSON object"):
        open_table(path)


def test_quote_never_closed_in_a_large_file_fills_no_memory(tmp_path):
    limit = csv.field_size_limit(1000)
    try:
        path = tmp_path / "items.csv"
        path.write_text('item_id,title\n1,One\n2,"Two\n' + "3,Three and some more words\n" * 1000)
        assert _problems(path) == [(3, "a quote is not closed")]
    finally:
        csv.field_size_limit(limit)


@pytest.mark.parametrize(
    ("delimiter", "known"),
    [("::", {}), ("~", {"delimiter": "~"}), (" ", {"delimiter": " "}), ("\x01", {"delimiter": "\x01"})],
)
def test_other_delimiters_are_found_or_named(tmp_path, delimiter, known):
    path = tmp_path / "ratings.dat"
    path.write_text(f"1{delimiter}1193{delimiter}978300760\n2{delimiter}661{delimiter}978302109\n")
    assert _rows(path, "2", **known) == [{"2": "1193"}, {"2": "661"}]


@pytest.mark.fault("other meaning")
def test_two_delimiters_that_fit_alike_are_refused_with_the_flag(tmp_path):
    path = tmp_path / "file.csv"
    path.write_text("1,5;2\n2,5;3\n")
    with pytest.raises(DataError, match="by semicolon and by comma") as caught:
        open_table(path)
    assert "--delimiter" in caught.value.hint
    assert _rows(path, delimiter=";") == [{"1": "1,5", "2": "2"}, {"1": "2,5", "2": "3"}]


def test_first_lines_without_numbers_are_rows_where_columns_are_numbered_or_dates(tmp_path):
    path = tmp_path / "news.tsv"
    path.write_text("N0\tsports\thome\tA headline\nN1\tnews\thome\tOther\n")
    assert open_table(path).names == ("N0", "sports", "home", "A headline")
    assert open_table(path, Reading(names={columns.ITEM: "1"})).names == ("1", "2", "3", "4")
    assert open_table(path, Reading(header=False)).names == ("1", "2", "3", "4")
    path.write_text("N3\tuser-1\t2019-11-10T01:00:00Z\nN1\tuser-2\t2019-11-11T01:00:00Z\n")
    assert open_table(path).names == ("1", "2", "3")


def test_a_folder_of_part_files_is_one_table(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "_SUCCESS").write_text("")
    (folder / ".part-0.csv.crc").write_bytes(b"crc")
    (folder / "part-00001.csv").write_text("item_id,title\n2,Two\n3\n")
    (folder / "part-00000.csv.gz").write_bytes(gzip.compress(b"item_id,title\n1,One\n"))
    rows = list(open_table(folder).rows(["title"]))
    assert [row.cells for row in rows] == [["One"], ["Two"], None]
    assert rows[2].problem == "part-00001.csv: 1 cells instead of 2"
    (folder / "part-00002.csv").write_text("item_id,name\n4,Four\n")
    with pytest.raises(DataError, match=r"part-00002\.csv has other columns"):
        open_table(folder)


@pytest.mark.fault("other meaning")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 and more", "ZIP archive or an Excel workbook"),
        (b"\xfd7zXZ", "compressed with xz"),
        (gzip.compress(b"item_id,title\n1,One\n" * 99, mtime=0)[:-20], "damaged gzip"),
        (gzip.compress(b"item_id,title\n1,One\n", mtime=0)[:11] + b"\xff\xff" + bytes(20), "damaged gzip"),
        (b"PAR1" + bytes(100), "not a readable Parquet file"),
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "items.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        _rows(path)
    assert "items.csv" in caught.value.message


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is a pipe"):
        open_table(tmp_path / "pipe")


@pytest.mark.fault("other meaning")
def test_columns_of_one_name_are_refused_unless_one_is_named(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,item_id\nu,a,b\n")
    with pytest.raises(DataError, match="several columns named 'item_id'"):
        find_columns(open_table(path), (columns.USER, columns.ITEM))
    second = Reading(names={columns.ITEM: "item_id.3"})
    assert find_columns(open_table(path), (columns.ITEM,), reading=second) == {columns.ITEM: "item_id.3"}


def test_remembered_names_win_over_those_flr_knows_where_the_file_has_them(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,artikel\nu,a,b\n")
    reading = Reading(remembered={columns.ITEM: "artikel", columns.USER: "klant"})
    assert find_columns(open_table(path), (columns.USER, columns.ITEM), reading=reading) == {
        columns.USER: "user_id",
        columns.ITEM: "artikel",
    }
