"""SHA-256 of files; a large file that was found right is not read again until it changes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from flr_model.cache import cache_folder

BLOCK = 1 << 20

LARGE = 16 << 20
"""Bytes from which on the cache remembers that a file was right; smaller ones are read by every process."""

SETTLED_SECONDS = 2.0
"""A file that changed less than this ago may change again within the resolution of its time; it is not remembered."""

_right: set[str] = set()


def sha256(paths: Path | Iterable[Path]) -> str:
    """Return the SHA-256 of a file, or of several one after another, in hexadecimal."""
    digest = hashlib.sha256()
    for path in [paths] if isinstance(paths, Path) else paths:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def has_sha256(path: Path, expected: str) -> bool:
    """Tell whether a file has this SHA-256.

    The answer "yes" is remembered by place, size and times of the file: by this process, and for large files in the
    cache folder.
    """
    status = path.stat()
    what = (os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, expected)
    key = hashlib.sha256(repr(what).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    mark = cache_folder() / "verified" / key if status.st_size >= LARGE else None
    if key in _right or (mark is not None and mark.exists()):
        return True
    if sha256(path) != expected:
        return False
    if time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_SECONDS:
        _right.add(key)
        if mark is not None:
            _leave(mark)
    return True


def _leave(mark: Path) -> None:
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError:
        return  # a cache that cannot be written costs time only
