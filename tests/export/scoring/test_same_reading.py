"""`flr prepare` and `flr score` understand every cell of a file in the same way."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flr_export.scoring.inputs import HistoryFile
from flr_model import columns
from flr_model.data.interactions import read_interactions
from flr_model.data.presplit import read_split
from flr_model.errors import DataError
from flr_model.files.reading import Reading

pytestmark = pytest.mark.fault("other meaning")

GOOD = [(f"v{n % 7}", f"i{n % 11}", 1_500_000_000 + n) for n in range(200)]
NAMES = (columns.USER, columns.ITEM, columns.TIME)

IDS = [
    "a|b",
    "1.0",
    "1",
    " 1 ",
    "1.00",
    "01",
    "1.5",
    "['a','nan']",
    "[a]",
    "nan",
    "",
    "NULL",
    r"\N",
    "a b",
    "a,b",
    "a;b",
    "1e5",
    "1.2E+10",
    'say "x"',
    "two\nlines",
    "é",
    "[",
    "(1, 2)",
    "{a,b}",
    "-3.0",
]
TIMES = [
    "1500000000",
    "1500000000000",
    "1.5e9",
    "2017-07-14",
    "14.07.2017 02:40",
    "2017-07-14T02:40:00+02:00",
    "soon",
    "",
    "20170714000000",
    "1/2/2017",
    "Jul 14, 2017",
    "-5",
    "inf",
    "nan",
    "1e30",
    "2017-07",
]
LISTS = [
    "['a', 'b']",
    "a|b",
    "a b",
    "a,b",
    "a",
    "['a' 'b']",
    "['a','nan']",
    "[1.0, 2]",
    "['3', \"it's\"]",
    "[]",
    "",
    "[1, 2",
    "[[1]]",
    "nan",
    "['a', f()]",
    "{a,b}",
    "(1, 2)",
    "a;b",
    '["x|y"]',
    "[a ... b]",
]


def write_csv(path, rows, names=NAMES):
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])
    return path


def of_prepare(path, reading=None):
    """Every user's items and seconds, and the rejects, as `flr prepare` reads a file of interactions."""
    data = read_interactions(path, reading or Reading())
    histories = {}
    for n in sorted(range(len(data)), key=lambda n: data.time[n]):
        event = (str(data.item_ids[data.item[n]]), int(data.time[n]) // 10**6)
        histories.setdefault(str(data.user_ids[data.user[n]]), []).append(event)
    reasons = [f"{what}: {cell}" if cell else what for what, cell in data.rejects.reasons]
    lines = zip(data.rejects.lines, data.rejects.codes, strict=True)
    return histories, [(line, reasons[code]) for line, code in lines]


def of_score(path, reading=None, form="auto"):
    """The same, as `flr score` reads a file of histories."""
    histories, rejects = {}, []
    for entry in HistoryFile.open(path, reading or Reading(), form).entries():
        if entry.problem == "no usable line":
            continue
        if entry.problem:
            rejects.append((entry.line, entry.problem))
        else:
            histories[entry.user] = list(zip(entry.items, entry.times, strict=True))
    return histories, rejects


@pytest.mark.parametrize("place", [0, 1])
def test_ids_of_a_long_file_are_the_same(tmp_path, place):
    rows = list(GOOD)
    for n, cell in enumerate(IDS):
        row = [f"u{n}", "x", 1_600_000_000 + n]
        row[place] = cell
        rows.append(tuple(row))
    path = write_csv(tmp_path / "h.csv", rows)
    histories, rejects = of_prepare(path)
    assert (histories, rejects) == of_score(path)
    read = {row[place] for row in GOOD} | {cell.strip().replace(".00", "").replace(".0", "") for cell in IDS}
    ids = set(histories) if place == 0 else {item for events in histories.values() for item, _ in events}
    assert ids <= read
    assert len(rejects) == 8  # a list, a list, three missing, a shortened number, two lines, and missing once more


def test_times_of_a_long_file_are_the_same(tmp_path):
    path = write_csv(tmp_path / "h.csv", [*GOOD, *((f"u{n}", "x", cell) for n, cell in enumerate(TIMES))])
    histories, rejects = of_prepare(path)
    assert (histories, rejects) == of_score(path)
    assert {reason.split(": ")[-1] for _, reason in rejects} == {
        "'soon'",
        "''",
        "'1/2/2017'",
        "'inf'",
        "'nan'",
        "'1e30'",
    }


def test_lists_are_the_same(tmp_path):
    good = [(f"v{n}", "['p', 'q']", "t") for n in range(200)]
    rows = [*good, *((f"u{n}", cell, "t") for n, cell in enumerate(LISTS))]
    path = write_csv(tmp_path / "h.csv", rows, (columns.USER, columns.HISTORY, columns.ITEM))
    split = read_split(path, Reading())
    read = {
        user: split.history[start:stop].tolist()
        for user, start, stop in zip(split.user_id, split.offsets[:-1], split.offsets[1:], strict=True)
    }
    histories, rejects = of_score(path)
    assert read == {user: [item for item, _ in events] for user, events in histories.items()}
    assert list(split.rejects.lines) == [line for line, _ in rejects]


@pytest.mark.parametrize(
    "form", ["tab", "semicolon", "colons", "utf-16", "cp1252", "gzip", "jsonl", "parquet", "folder"]
)
def test_forms_of_a_file_are_the_same(tmp_path, form):
    rows = [(f"vé{n % 7}", f"i{n % 11}.0", 1_500_000_000 + n) for n in range(100)]
    path = tmp_path / "file"
    lines = [NAMES, *rows]
    text = {
        delimiter: "".join(delimiter.join(map(str, row)) + "\n" for row in lines)
        for delimiter in ("\t", ";", "::", ",")
    }
    if form == "jsonl":
        path.write_text("".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in rows))
    elif form == "parquet":
        pq.write_table(pa.table({name: [row[n] for row in rows] for n, name in enumerate(NAMES)}), path)
    elif form == "folder":
        path.mkdir()
        for n in (0, 1):
            write_csv(path / f"part-{n}", rows[50 * n : 50 * n + 50])
    elif form == "gzip":
        path.write_bytes(gzip.compress(text[","].encode()))
    elif form in ("utf-16", "cp1252"):
        path.write_bytes(text[","].encode(form))
    else:
        path.write_text(text[{"tab": "\t", "semicolon": ";", "colons": "::"}[form]])
    expected = of_prepare(write_csv(tmp_path / "plain.csv", rows))
    assert of_prepare(path) == of_score(path) == expected
    assert expected[0]["vé0"][0] == ("i0.0", 1_500_000_000)


def test_a_file_that_is_newest_first_keeps_the_order_of_its_moments(tmp_path):
    rows = [(f"u{n % 3}", f"i{n}", f"{1 + n // 6:02}.03.2020") for n in range(60)]
    expected = {f"u{k}": [f"i{n}" for n in range(60) if n % 3 == k] for k in range(3)}
    for name, order in (("old.csv", rows), ("new.csv", rows[::-1])):
        path = write_csv(tmp_path / name, order)
        histories, _ = of_prepare(path)
        assert histories == of_score(path)[0]
        assert {user: [item for item, _ in events] for user, events in histories.items()} == expected


def test_what_one_refuses_the_other_refuses(tmp_path):
    path = write_csv(tmp_path / "h.csv", [("u", "a", "1/2/2020"), ("v", "b", "3/4/2020")])
    for read in (of_prepare, of_score):
        with pytest.raises(DataError, match="day first or month first") as caught:
            read(path)
        assert "--time-format" in caught.value.hint
    settled = Reading(time_format="day-first")
    assert of_prepare(path, settled) == of_score(path, settled)
    remembered = Reading(remembered={columns.TIME: "timestamp"}, remembered_format="day-first")
    assert of_score(path, remembered)[0]["u"] == [("a", 1_580_515_200)]
