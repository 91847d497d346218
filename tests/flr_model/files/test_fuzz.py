"""Whatever a file holds, reading it ends in rows or in an error of flr, never in another exception.

`FLR_FUZZ=10000 pytest tests/flr_model/files/test_fuzz.py` tries that many files of each kind; the default is a few.
"""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.scoring.inputs import HistoryFile
from flr_model.data.interactions import read_interactions
from flr_model.data.items import open_items, read_items
from flr_model.data.presplit import read_split
from flr_model.errors import FlrError
from flr_model.files.reading import Reading

fuzz = settings(
    max_examples=int(os.environ.get("FLR_FUZZ", "60")),
    deadline=None,
    database=None,
    derandomize="FLR_FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
)

NASTY = st.sampled_from(
    [
        "",
        "u1",
        "i1",
        "1",
        "1.0",
        "1e400",
        "-1e400",
        "nan",
        "inf",
        "[",
        "]",
        "[]",
        "['a' 'b']",
        "[1, 2]",
        "(" * 300,
        "[" * 3000,
        '"',
        '""',
        '"x',
        'x"',
        "\\",
        "\\N",
        "'",
        "['\\x']",
        "['\\ud800']",
        "{",
        '{"a": 1}',
        "a|b",
        "a;b",
        "1500000000",
        "20210131",
        "44227.25",
        "2015",
        "1/2/2020",
        "13/2/2020",
        "31.12.2020 25:00",
        "0000-00-00",
        "9999-12-31",
        "99999-01-01",
        "2020-01-01T00:00:00+99:99",
        "1970-01-01 00:00 -2400",
        "Feb 30, 2020",
        "1_000",
        "１２３",
        "٣",
        "\x00",
        "\x85",
        "\u2028",
        "\ud83d",
        "9" * 400,
        "1" + "0" * 5000,
        "::",
        "\t",
        "user_id",
        "item_id",
        "timestamp",
        "=1+1",
        "1e-400",
        "True",
        "None",
    ]
)
CELL = NASTY | st.text(max_size=12)
HEADERS = st.sampled_from(
    [
        ["user_id", "item_id", "timestamp"],
        ["user_id", "history", "item_id", "timestamp", "history_timestamp"],
        ["item_id", "title"],
        ["user", "items"],
        ["user_id", "item_id", "item_id"],
        ["a", "b"],
        ["1", "2", "3"],
        [],
    ]
)


def check(path: Path) -> None:
    """Read a file in every role."""
    readings = [
        Reading(),
        Reading(time=False, header=False),
        Reading(names={"user_id": "1", "item_id": "2", "title": "3"}),
    ]
    for reading in readings:
        for read in (
            lambda r: read_interactions(path, r),
            lambda r: read_split(path, r),
            lambda r: read_items(open_items(path, r), r, np.asarray(["i1", "1"], object)),
            lambda r: list(HistoryFile.open(path, r).entries()),
            lambda r: list(HistoryFile.open(path, r, "wide").entries()),
        ):
            try:
                read(reading)
            except FlrError as error:
                assert path.name in error.message  # noqa: PT017 - most files are good for no or for some roles


def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut a file, or change some of its bytes."""
    if draw(st.integers(0, 3)) == 0:
        content = content[: draw(st.integers(0, len(content)))]
    changed = bytearray(content)
    for _ in range(draw(st.integers(0, 3))):
        if changed:
            changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    return bytes(changed)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    delimiter = draw(st.sampled_from([",", ";", "\t", "|", "::"]))
    quote = draw(st.booleans())
    rows = [draw(HEADERS), *draw(st.lists(st.lists(CELL, max_size=5), max_size=12))]
    lines = (delimiter.join('"' + c.replace('"', '""') + '"' if quote else c for c in row) for row in rows)
    text = draw(st.sampled_from(["\n", "\r\n", "\r"])).join(lines)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "cp1251", "gbk"]))
    content = damaged(draw, text.encode(encoding, "replace"))
    return damaged(draw, gzip.compress(content)) if draw(st.integers(0, 3)) == 0 else content


VALUES = st.recursive(
    CELL | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(CELL, v, max_size=2),
    max_leaves=6,
)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    names = draw(HEADERS)
    rows = draw(st.lists(st.lists(VALUES, min_size=len(names), max_size=len(names)), min_size=1, max_size=8))
    write = draw(st.sampled_from([json.dumps, repr]))
    lines = [write(dict(zip(names, row, strict=True))) for row in rows]
    return damaged(draw, "\n".join(lines).encode("utf-8", "replace"))


TYPES = {
    pa.string(): st.text(max_size=5),
    pa.binary(): st.binary(max_size=5),
    pa.int64(): st.integers(-(2**62), 2**62),
    pa.float64(): st.floats(),
    pa.bool_(): st.booleans(),
    pa.list_(pa.string()): st.lists(st.text(max_size=3), max_size=3),
    pa.list_(pa.float64()): st.lists(st.floats(), max_size=3),
    pa.timestamp("s"): st.integers(-(2**50), 2**50),
    pa.timestamp("ns"): st.integers(-(2**62), 2**62),
    pa.date32(): st.integers(-(2**31), 2**31 - 1),
    pa.duration("s"): st.integers(-(2**60), 2**60),
    pa.time64("us"): st.integers(0, 86_399_999_999),
    pa.struct({"id": pa.string()}): st.fixed_dictionaries({"id": st.text(max_size=3)}),
    pa.null(): st.none(),
    pa.timestamp("us", "Europe/Berlin"): st.integers(-(2**50), 2**50),
}


@st.composite
def parquet(draw: st.DrawFn) -> bytes:
    names = draw(HEADERS.filter(bool))
    n = draw(st.integers(1, 6))
    columns = []
    for _ in names:
        kind = draw(st.sampled_from(list(TYPES)))
        values = draw(st.lists(TYPES[kind] | st.none(), min_size=n, max_size=n))
        raw = pa.types.is_temporal(kind)
        whole = pa.array(values, pa.int32() if pa.types.is_date32(kind) else pa.int64() if raw else kind)
        columns.append(whole.view(kind) if raw else whole)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(columns, names=names), sink, store_schema=draw(st.booleans()))
    return damaged(draw, sink.getvalue().to_pybytes())


@pytest.mark.parametrize("kind", [texts, records, parquet], ids=lambda kind: kind.__name__)
def test_no_file_ends_in_a_traceback(kind, tmp_path):
    path = tmp_path / "file.data"

    @fuzz
    @given(kind())
    def try_one(content):
        path.write_bytes(content)
        check(path)

    try_one()
