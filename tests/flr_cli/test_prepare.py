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
    assert set(_state(place / "data")) == {"manifest.json", *DATASET.files, "interactions.parquet", "report.json"}
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


SHOP = "customer_no;sku;product_name;ordered_at;brand;category;price"


def _shop_orders():
    """An export of a shop, newest first; line 6 has a broken date, line 7 a cell too many, line 8 no customer."""
    orders = [
        f"C{n % 20:03};SKU-{n % 13:02};Größe {n % 13};{1 + n // 10:02}.0{1 + n // 200}.2021;B;C;1,99"
        for n in range(280)
    ]
    for line, (old, new) in {6: (".2021", ".20x1"), 7: ("B;C", "B;C;D"), 8: ("C0", ";")}.items():
        orders[-(line - 1)] = orders[-(line - 1)].replace(old, new)
    return "\n".join([SHOP, *orders[::-1], ""])


def test_an_export_of_a_shop_is_a_dataset_in_one_call(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.csv").write_text(_shop_orders(), encoding="cp1252")
    assert main(["prepare", "--interactions", "orders.csv", "--out", "data", "--json"]) == 0
    streams = capsys.readouterr()
    report = json.loads(streams.out)
    assert (report["users"], report["items"], report["dropped_rows"]) == (20, 13, 3)
    assert (report["first_time"], report["last_time"], report["newest_first"]) == ("2021-01-01", "2021-02-28", True)
    assert "read as Windows-1252" in streams.err
    rejected = (tmp_path / "data" / "rejects.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in rejected] == ["line", "6", "7", "8"]
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["content"]["reading"]["interactions"]["columns"] == {
        "user_id": "customer_no",
        "item_id": "sku",
        "timestamp": "ordered_at",
    }
    assert "Größe" in (tmp_path / "data" / "report.json").read_text(encoding="utf-8")


def test_interactions_without_titles_need_items(place, capsys):
    capsys.readouterr()
    assert main(["prepare", "--interactions", "log.csv", "--out", "other"]) == 3
    message = " ".join(capsys.readouterr().err.split())
    assert "log.csv has no titles, and --items is missing" in message
    assert "--title-col" in message


def test_a_time_column_that_flr_does_not_know_is_named_or_denied(place, capsys):
    (place / "log.csv").write_text(LOG.replace("timestamp", "wann"))
    _fails(
        place,
        capsys,
        "log.csv has no time column that flr knows; 'wann' looks like times",
        "--time-col wann",
        "--no-time",
    )
    assert _prepare("--overwrite", "--time-col", "wann", "--json") == 0
    assert json.loads(capsys.readouterr().out)["timed"]
    assert _prepare("--overwrite", "--no-time", "--json") == 0
    assert not json.loads(capsys.readouterr().out)["timed"]


def test_settings_of_one_file_alone(place, capsys):
    (place / "log.csv").write_text("\n".join(EVENTS).replace(",", "\t"))
    (place / "items.csv").write_text("0;i0;Ö 0\n1;i1;Ö 1\n2;i2;Ö 2\n3;i3;Ö 3\n4;i4;Ö 4\n", encoding="cp437")
    columns = ["--user-col", "1", "--item-col", "2", "--time-col", "3", "--title-col", "3"]
    capsys.readouterr()
    assert _prepare("--overwrite", *columns, "--encoding", "items=cp437", "--delimiter", "interactions=tab") == 0
    assert "Ö 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--time-format", "dmy", "--time-format is 'dmy'"),
        ("--time-format", "%d.%Q", "--time-format is '%d.%Q'"),
        ("--time-format", "%Y %Y", "--time-format is '%Y %Y'"),
        ("--encoding", "items=latin-99", "--encoding is 'latin-99'"),
        ("--encoding", "undefined", "--encoding is 'undefined'"),
    ],
)
def test_impossible_settings_of_files_are_usage_errors(place, capsys, flag, value, message):
    assert _prepare("--overwrite", flag, value) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.fault("other meaning")
def test_two_columns_that_differ_in_case_alone_are_refused_unless_one_is_named(place, capsys):
    (place / "log.csv").write_text("\n".join(["user_id,User_ID,item_id,timestamp", *(f"x,{row}" for row in EVENTS)]))
    _fails(place, capsys, "several columns named 'user_id'", "name of its own")
    assert _prepare("--overwrite", "--user-col", "User_ID") == 0


@pytest.mark.fault("other meaning")
def test_a_count_under_a_name_of_times_is_refused_where_another_column_has_them(place, capsys):
    rows = [f"u{n % 2},i{n % 5},{n % 3},2021-01-{n + 1:02}" for n in range(22)]
    (place / "log.csv").write_text("\n".join(["user_id,item_id,time,order_date", *rows]))
    _fails(place, capsys, "'time' has a name of times, but 'order_date' looks like them", "--time-col order_date")
    assert _prepare("--overwrite", "--time-col", "order_date") == 0
    assert _prepare("--overwrite", "--time-col", "time") == 0


@pytest.mark.fault("other meaning")
@pytest.mark.parametrize("none", ["0", "1900-01-01", "2999-01-01"])
def test_times_that_stand_for_none_are_said(place, capsys, none):
    rows = [row if n % 4 else row.rsplit(",", 1)[0] + f",{none}" for n, row in enumerate(EVENTS)]
    (place / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    capsys.readouterr()
    assert _prepare("--overwrite") == 0
    assert "6 of 22 before 1985 or in the future" in " ".join(capsys.readouterr().err.split())


@pytest.mark.fault("other meaning")
def test_an_id_that_may_stand_for_none_is_said(place, capsys):
    (place / "log.csv").write_text(LOG.replace("u1,i1", "NA,i1"))
    capsys.readouterr()
    assert _prepare("--overwrite") == 0
    assert "the user 'NA' of 3 rows counts as one like others" in " ".join(capsys.readouterr().err.split())
