"""Users' files as bytes and as text: what can be opened, what is compressed, and in which encoding text is."""

from __future__ import annotations

import codecs
import gzip
import io
import logging
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from flr_model.errors import DataError, pluralize

logger = logging.getLogger(__name__)

GZIP_MAGIC = b"\x1f\x8b"
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_OTHER_FORMS = {
    b"PK\x03\x04": ("a ZIP archive or an Excel workbook", "unpack it, or save the sheet as CSV"),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", "save the sheet as CSV"),
    b"BZh": ("compressed with bzip2", "unpack it, or compress it with gzip"),
    b"\xfd7zX": ("compressed with xz", "unpack it, or compress it with gzip"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "unpack it, or compress it with gzip"),
}
_CHUNK = 1 << 20
_HIGH = re.compile(rb"[\x80-\xff]+")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever the system or a parser raises while a user's file is read into an error that names the file.

    Raises:
        DataError: in place of any other exception of reading.
    """
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", hint="check the path") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is a damaged gzip file: {error}", hint=f"download or copy it again; `gzip -t {path}` checks it"
        ) from None
    except (OSError, pa.ArrowException, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0] or type(error).__name__
        raise DataError(f"{path} cannot be read: {reason}", hint="check the file, copy or make it again") from None


def magic(path: Path) -> bytes:
    """Return the first four bytes of a file.

    Raises:
        DataError: if it is missing, no plain file, unreadable, empty, or of a form that flr does not read.
    """
    with readable(path):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
            raise DataError(
                f"{path} is {kind}; flr reads a file more than once", hint="write it to a file, and name that"
            )
        with path.open("rb") as stream:
            head = stream.read(4)
    if not head:
        raise DataError(f"{path} is empty", hint="give a file with a header line and one row per interaction or item")
    for start, (form, way_out) in _OTHER_FORMS.items():
        if head.startswith(start):
            raise DataError(f"{path} is {form}", hint=way_out)
    return head


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, decompressed when its content is gzip, whatever its name."""
    if magic(path).startswith(GZIP_MAGIC):
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")


def open_text(path: Path, encoding: str) -> io.TextIOWrapper:
    """Open a text file in the encoding that `find_encoding` found; line ends stay as they are."""
    return io.TextIOWrapper(open_bytes(path), encoding=encoding, errors="replace", newline="")


def find_encoding(path: Path, given: str | None = None) -> str:
    """Read a text file to its end and return its encoding.

    It is that of its byte order mark, else UTF-8 (a few broken bytes are said, and read as "\ufffd"), else Windows-1252
    where the bytes look like it.

    Args:
        path: the file, plain or gzip.
        given: the encoding that the user names; it must fit.

    Raises:
        DataError: if the file is empty, binary, damaged, or the encoding is not that or cannot be told.
    """
    with readable(path):
        with open_bytes(path) as stream:
            head = stream.read(4)
        if not head:
            raise DataError(f"{path} is empty once decompressed", hint="make the file again")
        marked = next((encoding for bom, encoding in _BOMS.items() if head.startswith(bom)), None)
        known = given or marked
        failure = _first_failure(path, known or "utf-8")
        if failure is None:
            return known or "utf-8"
        line, byte = failure
        if known:
            raise DataError(
                f"{path} is not {known}: byte 0x{byte:02x} in line {line}", hint="name its encoding with --encoding"
            )
        return _without_mark(path, line, byte)


def _without_mark(path: Path, line: int, byte: int) -> str:
    """Tell UTF-8 with broken bytes, Windows-1252 and all others apart."""
    seen = _HighBytes.of(path)
    if byte and seen.good > len(seen.broken):
        logger.warning(
            "%s: bytes that are not UTF-8 in %s (%s), read as \ufffd; another encoding is named with --encoding",
            path,
            pluralize(len(seen.broken), "line"),
            ", ".join(f"line {number}" for number in seen.broken[:3]),
        )
        return "utf-8"
    if byte and _first_failure(path, "cp1252") is None:
        if 2 * seen.in_runs <= seen.total:
            logger.warning(
                "%s is not UTF-8 (line %d); read as Windows-1252. Another encoding is named with --encoding", path, line
            )
            return "cp1252"
        raise DataError(
            f"{path} is neither UTF-8 nor a western encoding (line {line})",
            hint="name its encoding with --encoding, for instance cp1251, gbk, shift_jis or euc_kr",
        )
    raise DataError(
        f"{path} is not text: byte 0x{byte:02x} in line {line} is neither UTF-8 nor Windows-1252",
        hint="name its encoding with --encoding, or give Parquet",
    )


@dataclass
class _HighBytes:
    """The bytes of a text beyond ASCII.

    Args:
        good: lines that are UTF-8 and have some. broken: numbers of lines that are not UTF-8.
        total: such bytes in broken lines; in_runs: of them, those that stand beside at least two others.
    """

    good: int = 0
    broken: list[int] = field(default_factory=list)
    total: int = 0
    in_runs: int = 0

    @classmethod
    def of(cls, path: Path) -> _HighBytes:
        seen = cls()
        with open_bytes(path) as stream:
            for number, line in enumerate(stream, start=1):
                if line.isascii():
                    continue
                try:
                    line.decode()
                    seen.good += 1
                except UnicodeDecodeError:
                    seen.broken.append(number)
                    runs = [len(run) for run in _HIGH.findall(line)]
                    seen.total += sum(runs)
                    seen.in_runs += sum(run for run in runs if run >= 3)
        return seen


def read_head(path: Path, encoding: str, size: int = 1 << 16, least: int = 2) -> list[str]:
    """Return the first lines of a text file, with their ends: some ``size`` characters, at least ``least`` lines."""
    lines: list[str] = []
    with open_text(path, encoding) as text:
        for line in text:
            lines.append(line)
            size -= len(line)
            least -= bool(line.strip())
            if size < 0 and least <= 0:
                break
    return lines


def _first_failure(path: Path, encoding: str) -> tuple[int, int] | None:
    """Return the line and the byte that the encoding cannot be; None if the whole file decodes to text."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    with open_bytes(path) as stream:
        while True:
            chunk = stream.read(_CHUNK)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return line + error.object[: error.start].count(b"\n"), error.object[
                    min(error.start, len(error.object) - 1)
                ]
            if "\0" in text:
                return line + text[: text.index("\0")].count("\n"), 0
            if not chunk:
                return None
            line += text.count("\n")
