import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flr_model.config import FilesConfig
from flr_model.errors import DataError
from flr_model.files.ids import read_ids
from flr_model.files.reading import Reading


def read(path, item_col=None, **memory):
    return read_ids(path, Reading.of(FilesConfig(item_col=item_col), "exclude", memory))


@pytest.mark.parametrize(
    "text",
    [
        "B07\n12\n",
        "B07\n12\nB07\n12.0\n",
        "\ufeffB07\r\n\r\n 12 ",
        "item_id\nB07\n12\n",
        '"SKU"\n"B07"\n"12"\n',
        "product_no;stock\nB07;0\n12;0\n",
        "stock\titem_id\n0\tB07\n0\t12\n",
        '{"item_id": "B07"}\n{"item_id": 12}\n',
    ],
)
def test_a_column_of_ids_and_one_id_per_line_are_the_same(tmp_path, text):
    (tmp_path / "ids").write_text(text, encoding="utf-8")
    assert read(tmp_path / "ids") == ["B07", "12"]
    (tmp_path / "ids.gz").write_bytes(gzip.compress(text.encode()))
    assert read(tmp_path / "ids.gz") == ["B07", "12"]


def test_one_id_alone_is_a_list(tmp_path):
    (tmp_path / "ids").write_text("B07")
    assert read(tmp_path / "ids") == ["B07"]


@pytest.mark.parametrize("table", [{"whatever": [7, 8]}, {"price": [1.5, 2.5], "asin": ["7", "8"]}])
def test_parquet(tmp_path, table):
    pq.write_table(pa.table(table), tmp_path / "ids")
    assert read(tmp_path / "ids") == ["7", "8"]


def test_names_that_are_given_or_remembered(tmp_path):
    (tmp_path / "ids").write_text("was,wie\nb,9\n")
    assert read(tmp_path / "ids", "exclude=was") == ["b"]
    assert read(tmp_path / "ids", columns={"item_id": "was"}) == ["b"]
    (tmp_path / "ids").write_text("b,9\n")
    assert read(tmp_path / "ids", "exclude=1") == ["b"]
    (tmp_path / "ids").write_text("sku,wie\nb,9\n")
    assert read(tmp_path / "ids", "was") == ["b"]  # the name is that of another file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("item_id\n", "a header .* and no rows"),
        ("colour,wie\nb,9\n", "has no item_id column"),
        ("item_id,wie\nb,9\n,9\n[1],2\n", r"no item id in 1 row \(line 3\); an id is a list in 1 row \(line 4"),
    ],
)
def test_what_is_no_list_of_ids_is_refused(tmp_path, text, message):
    (tmp_path / "ids").write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "ids")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "ids")
