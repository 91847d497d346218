"""What the fuzzer writes: files of every form, most of them damaged, or good but for a few cells."""

import bz2
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from flr_model.config import FilesConfig
from flr_model.config_io import ALL, dump_toml
from flr_model.files.reading import FLAGS

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
        "a\nb",
        "a\rb",
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
        "0001-01-01T00:00:00+14:00",
        "1_000",
        "１２３",
        "٣",
        "²",
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
        "-0",
        "0x10",
        "1E5",
        "\ufeff",
        "<|im_end|>",
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
        ["user_id:token", "item_id:token", "timestamp:float"],
        [],
    ]
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "cp1251", "gbk"])
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
GIVEN = {
    **{
        flag.lstrip("-").replace("-", "_"): st.sampled_from(["user_id", "1", "2", "99", "a,items=b"])
        | st.text(max_size=4)
        for flag in FLAGS.values()
    },
    "time": st.booleans(),
    "header": st.booleans(),
    "time_format": st.sampled_from(["excel", "day-first", "seconds", "yyyymmdd", "%d.%m.%y", "%", "%Q", "%Y" * 99]),
    "encoding": st.sampled_from(
        ["utf-16", "cp1252", "idna", "utf-7", "undefined", "hex", "rot13", "unicode_escape", "x", "a\0"]
    ),
    "delimiter": st.sampled_from([",", "tab", '"', "\n", "\r", " ", "::", "\0", "é", "items=;"])
    | st.text(min_size=1, max_size=2),
}
"""What a person may say of a file, by the field of `FilesConfig`."""


@st.composite
def given_files(draw: st.DrawFn) -> Callable[[], FilesConfig]:
    """How files are read, mostly as they are; called, as settings may be refused."""
    names = draw(st.lists(st.sampled_from(sorted(GIVEN)), max_size=2, unique=True))
    values = {name: draw(GIVEN[name]) for name in names}
    return lambda: FilesConfig(**values)


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
    """Lines of random cells, in any encoding."""
    delimiter = draw(st.sampled_from([",", ";", "\t", "|", "::"]))
    quote = draw(st.booleans())
    rows = [draw(HEADERS), *draw(st.lists(st.lists(CELL, max_size=5), max_size=12))]
    lines = (delimiter.join('"' + c.replace('"', '""') + '"' if quote else c for c in row) for row in rows)
    return damaged(draw, draw(LINE_ENDS).join(lines).encode(draw(ENCODINGS), "replace"))


VALUES = st.recursive(
    CELL | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(CELL, v, max_size=2),
    max_leaves=6,
)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """JSON or Python dictionaries, one a line or all in one list."""
    names = draw(HEADERS)
    rows = draw(st.lists(st.lists(VALUES, min_size=len(names), max_size=len(names)), min_size=1, max_size=8))
    write = draw(st.sampled_from([json.dumps, repr]))
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    text = write(objects) if draw(st.integers(0, 4)) == 0 else "\n".join(map(write, objects))
    return damaged(draw, text.encode("utf-8", "replace"))


TYPES = {
    pa.string(): st.text(max_size=5),
    pa.large_string(): st.text(max_size=5),
    pa.binary(): st.binary(max_size=5),
    pa.int64(): st.integers(-(2**62), 2**62),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats(),
    pa.bool_(): st.booleans(),
    pa.decimal128(20, 3): st.decimals(-(10**12), 10**12, places=3),
    pa.list_(pa.string()): st.lists(st.text(max_size=3), max_size=3),
    pa.list_(pa.float64()): st.lists(st.floats(), max_size=3),
    pa.list_(pa.list_(pa.int64())): st.lists(st.lists(st.integers(0, 9), max_size=2), max_size=2),
    pa.timestamp("s"): st.integers(-(2**50), 2**50),
    pa.timestamp("ns"): st.integers(-(2**62), 2**62),
    pa.date32(): st.integers(-(2**31), 2**31 - 1),
    pa.duration("s"): st.integers(-(2**60), 2**60),
    pa.duration("ns"): st.integers(-(2**60), 2**60),
    pa.time64("us"): st.integers(0, 86_399_999_999),
    pa.struct({"id": pa.string()}): st.fixed_dictionaries({"id": st.text(max_size=3)}),
    pa.map_(pa.string(), pa.int64()): st.lists(st.tuples(st.text(max_size=2), st.integers(0, 9)), max_size=2),
    pa.null(): st.none(),
    pa.timestamp("us", "Europe/Berlin"): st.integers(-(2**50), 2**50),
    pa.timestamp("us", "Nowhere/Land"): st.integers(0, 2**50),
}


@st.composite
def parquet(draw: st.DrawFn) -> bytes:
    """Columns of any type under names that promise ids and times."""
    names = draw(HEADERS.filter(bool))
    n = draw(st.integers(1, 6))
    columns = []
    for _ in names:
        kind = draw(st.sampled_from(list(TYPES)))
        values = draw(st.lists(TYPES[kind] | st.none(), min_size=n, max_size=n))
        raw = pa.types.is_temporal(kind)
        whole = pa.array(values, pa.int32() if pa.types.is_date32(kind) else pa.int64() if raw else kind)
        whole = whole.view(kind) if raw else whole
        coded = draw(st.integers(0, 5)) == 0 and (pa.types.is_string(kind) or pa.types.is_integer(kind))
        columns.append(whole.dictionary_encode() if coded else whole)
    sink = pa.BufferOutputStream()
    compression = draw(st.sampled_from(["snappy", "gzip", "none"]))
    pq.write_table(
        pa.Table.from_arrays(columns, names=names), sink, store_schema=draw(st.booleans()), compression=compression
    )
    return damaged(draw, sink.getvalue().to_pybytes())


def _zipped(content: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("interactions.csv", content)
    return sink.getvalue()


def _tarred(content: bytes) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        entry = tarfile.TarInfo("interactions.csv")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


@st.composite
def packed(draw: st.DrawFn) -> bytes:
    """Any of the others, compressed: once, twice, as several members, or in a form that flr does not read."""
    content = draw(texts() | records() | parquet())
    pack = draw(
        st.sampled_from(
            [gzip.compress, lambda b: gzip.compress(b) * 2, lambda b: gzip.compress(gzip.compress(b)), bz2.compress,
             lambda b: gzip.compress(b) + b"\0" * 9, _zipped, _tarred]
        )
    )  # fmt: skip
    return damaged(draw, pack(content))


@dataclass(frozen=True)
class Files:
    """The files of one command. ``folder``: the interactions are a folder of parts, cut after so many bytes."""

    interactions: bytes
    items: bytes
    folder: int | None = None


@st.composite
def plausible(draw: st.DrawFn) -> Files:
    """Good files of interactions and items, but for some cells, in which commands go on to their end."""
    delimiter = draw(st.sampled_from([",", "\t", ";", "::"]))
    write_time = draw(
        st.sampled_from([str, lambda t: f"2021-{t % 12 + 1:02}-{t % 28 + 1:02}", lambda t: f"{t * 1000}"])
    )
    rows = [
        [f"u{n % 4}", "abcdef"[draw(st.integers(0, 5))], write_time(1_600_000_000 + 86_400 * n)]
        for n in range(draw(st.integers(8, 24)))
    ]
    items = [[item, f"title {item}"] for item in "abcdef"]
    for table in (rows, items):
        for _ in range(draw(st.integers(0, 2))):
            table[draw(st.integers(0, len(table) - 1))][draw(st.integers(0, len(table[0]) - 1))] = draw(CELL)
    heads = ["user_id", "item_id", "timestamp"], ["item_id", "title"]
    encoding, end = draw(ENCODINGS), draw(LINE_ENDS)
    contents = [
        end.join(delimiter.join(row) for row in ([*([head] if draw(st.integers(0, 4)) else []), *table]))
        .encode(encoding, "replace")
        for head, table in zip(heads, (rows, items), strict=True)
    ]  # fmt: skip
    cut = draw(st.none() | st.integers(0, len(contents[0])))
    return Files(*(damaged(draw, c) if draw(st.integers(0, 3)) == 0 else c for c in contents), folder=cut)


@st.composite
def settings_files(draw: st.DrawFn) -> bytes:
    """The file of --config with some values and bytes changed, or any text."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.text(max_size=60)).encode("utf-8", "replace")
    lines = dump_toml([config() for config in ALL]).splitlines()
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        value = draw(
            CELL | st.integers() | st.floats() | st.sampled_from(["true", "2020-01-01", "[1]", "{a = 1}", "1_0"])
        )
        lines[place] = lines[place].split(" = ")[0] + f" = {value}"
    return damaged(draw, "\n".join(lines).encode("utf-8", "replace"))
