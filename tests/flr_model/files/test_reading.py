import pytest

from flr_model import columns
from flr_model.config import FilesConfig
from flr_model.errors import ConfigError
from flr_model.files.reading import Reading, remember
from flr_model.files.times import TimeRule


def test_a_setting_counts_for_all_files_but_those_that_have_their_own():
    files = FilesConfig(item_col="2,items=1", encoding="items=cp1251", delimiter="tab,items=,")
    interactions, items = (Reading.of(files, role) for role in ("interactions", "items"))
    assert (interactions.names, items.names) == ({columns.ITEM: "2"}, {columns.ITEM: "1"})
    assert (interactions.encoding, items.encoding) == (None, "cp1251")
    assert (interactions.delimiter, items.delimiter) == ("\t", ",")


def test_a_comma_in_a_column_name_is_part_of_it():
    assert Reading.of(FilesConfig(title_col="name, long"), "items").names == {columns.TITLE: "name, long"}


def test_what_is_remembered_is_what_was_found():
    kept = remember({columns.TIME: "wann"}, TimeRule("day-first"))
    reading = Reading.of(FilesConfig(), "histories", kept)
    assert reading.remembered == {columns.TIME: "wann"}
    assert reading.format_of(columns.TIME, "wann") == "day-first"
    assert reading.format_of(columns.TIME, "other") is None
    assert Reading.of(FilesConfig(time_format="excel"), "histories", kept).format_of(columns.TIME, "wann") == "excel"
    assert "time_format" not in remember({}, TimeRule())


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"--time-format is 'dmy'.*--encoding is 'latin-99'"):
        FilesConfig(time_format="dmy", encoding="items=latin-99")
