"""Text files as bytes: opened (gzip or plain), checked to the end, and their encoding found."""

from __future__ import annotations

import codecs
import gzip
import io
import logging
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from flr_model.errors import DataError

logger = logging.getLogger(__name__)

GZIP_MAGIC = b"\x1f\x8b"
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_CHUNK = 1 << 20


def magic(path: Path) -> bytes:
    """Return the first four bytes of a file.

    Raises:
        DataError: if it is missing, a folder, unreadable or empty.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", hint="check the path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", hint="name a file, not a folder") from None
    if not head:
        raise DataError(f"{path} is empty", hint="give a file with a header line and one row per interaction or item")
    return head


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, decompressed when its content is gzip, whatever its name."""
    if magic(path).startswith(GZIP_MAGIC):
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")


def find_encoding(path: Path) -> str:
    """Read a text file to its end and return its encoding: UTF-8, UTF-16 (with a mark), else Windows-1252.

    Raises:
        DataError: if the file is empty, binary, a damaged gzip, or in none of these encodings.
    """
    try:
        with open_bytes(path) as stream:
            head = stream.read(4)
        if not head:
            raise DataError(f"{path} is empty once decompressed", hint="make the file again")
        marked = next((encoding for bom, encoding in _BOMS.items() if head.startswith(bom)), None)
        failure = _first_failure(path, marked or "utf-8")
        if failure is None:
            return marked or "utf-8"
        if marked is None and _first_failure(path, "cp1252") is None:
            logger.warning("%s is not UTF-8 (line %d); read as Windows-1252", path, failure[0])
            return "cp1252"
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is a damaged gzip file: {error}", hint=f"download or copy it again; `gzip -t {path}` checks it"
        ) from None
    line, byte = failure
    raise DataError(
        f"{path} is not text: byte 0x{byte:02x} in line {line} is neither UTF-8 nor Windows-1252",
        hint=f"convert it, for instance `iconv -f ENCODING -t UTF-8 {path} > utf8.csv`, or give Parquet",
    )


def read_head(path: Path, encoding: str, size: int = 1 << 16) -> list[str]:
    """Return the first whole lines of a text file, with their ends, at most ``size`` bytes of them."""
    with open_bytes(path) as stream:
        data = stream.read(size)
        whole = not stream.read(1)
    lines = io.StringIO(codecs.getincrementaldecoder(encoding)().decode(data), newline=None).readlines()
    return lines if whole or len(lines) < 2 else lines[:-1]


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
                return line + error.object[: error.start].count(b"\n"), error.object[error.start]
            if "\0" in text:
                return line + text[: text.index("\0")].count("\n"), 0
            if not chunk:
                return None
            line += text.count("\n")
