import gzip
import json

import pytest

from flr_cli.app import main
from flr_model.artifacts import DATASET

EVENTS = [f"u{n % 2},i{n % 5},{1_500_000_000 + n}" for n in range(22)]
LOG = "\n".join(["user_id,item_id,timestamp", *EVENTS, ""])
ITEMS = "\n".join(["item_id,title", *(f"i{n},Title {n}" for n in range(5)), ""])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with good files, and a dataset that errors must leave untouched."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "items.csv").write_text(ITEMS)
    assert _prepare() == 0
    return tmp_path


def _prepare(*extra):
    return main(["prepare", "--interactions", "log.csv", "--items", "items.csv", "--out", "data", *extra])


def _state(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _fails(place, capsys, *said, code=3, extra=()):
    """Run prepare over the existing dataset; it must fail with the words, and leave dataset and folder as they were."""
    capsys.readouterr()
    before, names = _state(place / "data"), sorted(path.name for path in place.iterdir())
    assert _prepare("--overwrite", *extra) == code
    streams = capsys.readouterr()
    message = " ".join(streams.err.split())
    for words in (*said, "try:"):
        assert words in message
    assert streams.out == ""
    assert _state(place / "data") == before
    assert sorted(path.name for path in place.iterdir()) == names


def test_prepare_writes_a_dataset_and_says_what_is_next(place, capsys):
    assert _prepare("--overwrite") == 0
    streams = capsys.readouterr()
    assert set(_state(place / "data")) == {"manifest.json", *DATASET.files, "report.json"}
    assert "interactions" in streams.out
    assert "flr train data --out" in streams.err
    assert "Title 0 -> Title 2" in streams.err


def test_json_is_one_object_on_stdout(place, capsys):
    capsys.readouterr()
    assert _prepare("--overwrite", "--json", "--quiet") == 0
    streams = capsys.readouterr()
    assert json.loads(streams.out)["splits"]["test"]["rows"] == 2
    assert all("figures of so few" in line for line in streams.err.splitlines())  # a warning, which is never quiet


def test_faults_of_rows_are_shown_where_there_are_any(place, capsys):
    capsys.readouterr()
    assert _prepare("--overwrite", "--quiet") == 0
    shown = capsys.readouterr().out
    assert "repeated" not in shown
    assert "train 8, valid 2, test 2" in shown  # targets in history
    (place / "log.csv").write_text(LOG + "\n".join(EVENTS) + "\n")
    assert _prepare("--overwrite", "--quiet") == 0
    streams = capsys.readouterr()
    assert "train 15, valid 1, test 0" in streams.out
    assert "train: 15 of 33 rows repeat another" in streams.err


def test_settings_come_from_the_file_and_flags_win(place, capsys):
    (place / "flr.toml").write_text("[prepare]\nmax_history = 3\nk_core = 2\n")
    assert _prepare("--overwrite", "--config", "flr.toml", "--max-history", "4") == 0
    saved = json.loads((place / "data" / "manifest.json").read_text())["settings"]["prepare"]
    assert (saved["max_history"], saved["k_core"]) == (4, 2)


def test_leave_one_out_warns_of_leakage(place, capsys):
    assert _prepare("--overwrite", "--split", "leave-one-out", "--quiet") == 0
    assert "leakage" in capsys.readouterr().err


def test_existing_output_is_an_error_without_overwrite(place, capsys):
    before = _state(place / "data")
    assert _prepare() == 3
    assert "--overwrite" in capsys.readouterr().err
    assert _state(place / "data") == before


def test_missing_column(place, capsys):
    (place / "log.csv").write_text(LOG.replace("user_id", "usr"))
    _fails(place, capsys, "log.csv has no user_id column", "did you mean 'usr'?", "--user-col")


def test_title_column_missing(place, capsys):
    (place / "items.csv").write_text(ITEMS.replace("title", "titel"))
    _fails(place, capsys, "items.csv has no title column", "did you mean 'titel'?", "--title-col")


def test_named_column_missing(place, capsys):
    _fails(place, capsys, "log.csv has no column 'when' (--time-col)", extra=["--time-col", "when"])


def test_columns_of_ready_made_splits_may_be_named(place, capsys):
    (place / "split.csv").write_text(
        "user_id,seq,item_id,when,timestamp\nu,\"['i0', 'i1']\",i2,\"[1, 2]\",3\nv,['i1'],i0,[1],3\n"
    )
    words = [word for name in ("train", "valid", "test") for word in (f"--{name}", "split.csv")]
    flags = ["--history-col", "seq", "--history-time-col", "when", "--items", "items.csv", "--out", "ready", "--json"]
    capsys.readouterr()
    assert main(["prepare", *words, *flags]) == 0
    assert json.loads(capsys.readouterr().out)["timed"]


@pytest.mark.parametrize("name", ["log.csv", "items.csv"])
def test_empty_file(place, capsys, name):
    (place / name).write_text("")
    _fails(place, capsys, f"{name} is empty")


def test_header_without_rows(place, capsys):
    (place / "log.csv").write_text("user_id,item_id,timestamp\n")
    _fails(place, capsys, "log.csv has a header (user_id, item_id, timestamp) and no rows")


def test_file_that_does_not_exist(place, capsys):
    (place / "log.csv").unlink()
    _fails(place, capsys, "log.csv does not exist")


def test_unparsable_dates(place, capsys):
    lines = LOG.splitlines()
    lines[4] = "u1,i3,yesterday"
    lines[9] = "u0,i3,13/02/2019"
    (place / "log.csv").write_text("\n".join(lines))
    said = "the time is neither a number nor a date in 2 rows (line 5: 'yesterday', line 10: '13/02/2019')"
    _fails(place, capsys, said, "2018-11-01", extra=["--strict"])
    assert _prepare("--overwrite", "--json") == 0
    streams = capsys.readouterr()
    assert json.loads(streams.out)["dropped_rows"] == 2
    assert said in " ".join(streams.err.split())
    assert (place / "data" / "rejects.csv").read_text().splitlines() == [
        "file,line,reason",
        "log.csv,5,the time is neither a number nor a date: 'yesterday'",
        "log.csv,10,the time is neither a number nor a date: '13/02/2019'",
    ]
    (place / "log.csv").write_text(LOG.replace("u1,i3", "u1,i3,x"))
    _fails(place, capsys, "4 cells instead of 3 in 2 rows", "--delimiter", extra=["--strict"])
    (place / "log.csv").write_text(LOG.replace(",i3", ",i3,x"))
    _fails(place, capsys, "4 cells instead of 3 in 4 rows (line 5, line 10, line 15)")


def test_one_user_only(place, capsys):
    (place / "log.csv").write_text(LOG.replace("u1", "u0"))
    _fails(place, capsys, "one user only in 22 rows (user_id is 'u0')", "--user-col")


def test_duplicate_item_ids(place, capsys):
    (place / "items.csv").write_text(ITEMS + "i0,Again\ni1,Again\n")
    _fails(place, capsys, "2 item ids more than once in the file ('i0' again in line 7, 'i1' again in line 8)")


def test_catalogue_of_one_item(place, capsys):
    (place / "log.csv").write_text("user_id,item_id,date\n" + "u,i0,2020-01-01\nv,i0,2020-01-02\n" * 2)
    (place / "items.csv").write_text("item_id,title\ni0,Only\n")
    _fails(place, capsys, "the catalogue has one item ('i0')")


def test_items_of_another_catalogue(place, capsys):
    (place / "items.csv").write_text(ITEMS.replace("i", "x").replace("xtem_xd,txtle", "item_id,title"))
    _fails(place, capsys, "no title for 5 of the 5 items", "like 'x0'", "--item-col")


def test_unknown_delimiter(place, capsys):
    (place / "log.csv").write_text(LOG.replace(",", "~"))
    _fails(place, capsys, "It has one column, 'user_id~item_id~timestamp'", "--delimiter")


def test_cells_that_contain_the_delimiter(place, capsys):
    (place / "items.csv").write_text(ITEMS.replace("Title 3", "Title, 3"))
    _fails(place, capsys, "3 cells instead of 2 in 1 row (line 5)", "close quotes")


def test_truncated_gzip(place, capsys):
    (place / "log.csv").write_bytes(gzip.compress(LOG.encode())[:-20])
    _fails(place, capsys, "log.csv is a damaged gzip file", "download or copy it again")


def test_truncated_parquet(place, capsys):
    (place / "log.csv").write_bytes(b"PAR1" + bytes(100))
    _fails(place, capsys, "log.csv is not a readable Parquet file")


def test_file_that_is_not_text(place, capsys):
    (place / "log.csv").write_bytes(LOG.encode() + b"\x81")
    _fails(place, capsys, "log.csv is not text: byte 0x81 in line 24")


def test_too_strong_filter(place, capsys):
    _fails(place, capsys, "--k-core 50 leaves 0 users of 2", "lower --k-core", extra=["--k-core", "50"])


def test_one_source_too_many_is_a_usage_error(place, capsys):
    _fails(place, capsys, "exclude each other", code=2, extra=["--train", "a", "--valid", "b", "--test", "c"])


def test_no_source_is_a_usage_error(place, capsys):
    assert main(["prepare", "--items", "items.csv", "--out", "other"]) == 2
    assert "--interactions, or --train, --valid and --test" in capsys.readouterr().err
    assert not (place / "other").exists()


def test_folder_that_flr_did_not_write_is_left_alone(place, capsys):
    (place / "mine").mkdir()
    (place / "mine" / "file").write_text("precious")
    code = main(["prepare", "--interactions", "log.csv", "--items", "items.csv", "--out", "mine", "--overwrite"])
    assert code == 3
    assert (place / "mine" / "file").read_text() == "precious"
