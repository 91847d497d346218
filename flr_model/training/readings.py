"""Readings of titles, kept from one training to the next: each title is read once by each reader.

The cache has a SQLite file for each reader; a reading is found by its title, whatever catalogue it stands in. What is
read is kept at once, so that a reading that was killed goes on, and several trainings may fill one file.

Shapes: M titles of a catalogue, n distinct titles, R readings and w width of a reader.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from flr_model.arrays import Bools, Floats, Ints
from flr_model.cache import cache_folder
from flr_model.errors import pluralize
from flr_model.nn.device import best_device, multiplies_bf16
from flr_model.nn.item_encoder import ItemEncoder
from flr_model.nn.item_readers import ItemReader
from flr_model.progress import SILENT, Progress

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_WRITES = 2.0
"""How much work a kill may cost."""

SECONDS_TO_WAIT = 60.0
"""For another process that is just writing."""

_TABLE = "CREATE TABLE IF NOT EXISTS readings (title BLOB PRIMARY KEY, states BLOB NOT NULL, checksum BLOB NOT NULL)"
_FIND = "SELECT states, checksum FROM readings WHERE title = ?"

_NOT_DAMAGED = ("lock", "readonly", "full", "unable to open", "I/O")
"""What SQLite's messages say when the file is not at fault."""


def read_catalogue(
    encoder: ItemEncoder, titles: Sequence[str], *, precision: str = "auto", progress: Progress = SILENT
) -> list[Floats]:
    """Return each reader's (M, R, w) readings of a catalogue's titles; those in the cache are not read again.

    Args:
        encoder: has the readers.
        titles: M of them.
        precision: fp32, bf16, or auto: bf16 where the device multiplies it.
        progress: counts titles.
    """
    dtype = reading_dtype(precision, best_device())
    return [_readings(reader, titles, dtype, progress) for reader in encoder.readers]


def _readings(reader: ItemReader, titles: Sequence[str], dtype: torch.dtype, progress: Progress) -> Floats:
    distinct = {title: place for place, title in enumerate(dict.fromkeys(titles))}
    names = list(distinct)
    readings = np.zeros((len(names), len(reader.parts), reader.width), np.float32)
    file = cache_folder() / "titles" / f"{reader.fingerprint(dtype)[:24]}.sqlite"
    with ReadingsCache(file) as cache:
        missing = np.flatnonzero(~cache.find(names, readings))
        if len(missing):
            _say(reader, len(names), len(missing), dtype)
            todo = [names[place] for place in missing]

            def keep(which: Ints, states: Floats) -> None:
                readings[missing[which]] = states
                cache.add([todo[place] for place in which], states)

            reader.to(best_device()).read_titles(todo, dtype=dtype, keep=keep, progress=progress)
            reader.to("cpu")
    return readings[[distinct[title] for title in titles]]


def reading_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of numbers in which titles are read.

    Args:
        precision: fp32, bf16, or auto: bf16 where the device has instructions for it.
        device: that reads.
    """
    if precision == "auto":
        precision = "bf16" if multiplies_bf16(device) else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def _say(reader: ItemReader, n_titles: int, n_missing: int, dtype: torch.dtype) -> None:
    logger.info(
        "%s of %d to read with %s in %s (--title-precision)",
        pluralize(n_missing, "title"),
        n_titles,
        reader.name,
        str(dtype).removeprefix("torch."),
    )


class ReadingsCache:
    """The readings of one reader, in a file; where it cannot be used, nothing is found and nothing is kept.

    Args:
        path: the SQLite file; made when missing, and made again when it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._new: list[tuple[bytes, bytes, bytes]] = []
        self._written = time.monotonic()
        self._connection: sqlite3.Connection | None = None
        self._open()

    def __enter__(self) -> ReadingsCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        self._close()

    def find(self, titles: Sequence[str], readings: Floats) -> Bools:
        """Fill in the readings (n, R, w) of titles that are here, and return (n,) which these are."""
        found = np.zeros(len(titles), bool)
        damaged = 0
        connection = self._connection
        with self._guarded():
            for place, title in enumerate(titles):
                if connection is None:
                    break
                key = _key(title)
                row = connection.execute(_FIND, (key,)).fetchone()
                if row is None:
                    continue
                states, checksum = row
                found[place] = checksum == _checksum(key, states) and len(states) == readings[place].nbytes
                if found[place]:
                    readings[place] = np.frombuffer(states, "<f4").reshape(readings[place].shape)
                damaged += not found[place]
        if damaged:
            logger.warning("%s has %s; they are read again", self.path, pluralize(damaged, "damaged reading"))
        return found

    def add(self, titles: Sequence[str], readings: Floats) -> None:
        """Keep the readings (n, R, w) of titles, and write what is new from time to time."""
        for title, states in zip(titles, readings.astype("<f4"), strict=True):
            key, content = _key(title), states.tobytes()
            self._new.append((key, content, _checksum(key, content)))
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self._write()

    def _write(self) -> None:
        with self._guarded():
            if self._connection is not None and self._new:
                with self._connection:
                    self._connection.executemany("INSERT OR REPLACE INTO readings VALUES (?, ?, ?)", self._new)
        self._new, self._written = [], time.monotonic()

    def _open(self) -> None:
        with self._guarded():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=SECONDS_TO_WAIT)
            self._connection.execute(_TABLE)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Go on with a new file where this one is damaged, and without any where none can be used."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            self._close()
            damaged = isinstance(error, sqlite3.Error) and not any(sign in str(error) for sign in _NOT_DAMAGED)
            if damaged and self._removed():
                logger.warning("%s is damaged (%s); the titles are read again", self.path, error)
                self._open()
            else:
                logger.warning("the readings of titles cannot be kept in %s: %s", self.path.parent, error)

    def _removed(self) -> bool:
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            return False
        return True


def _key(title: str) -> bytes:
    return hashlib.blake2b(title.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _checksum(key: bytes, states: object) -> bytes:
    return hashlib.blake2b(key + states if isinstance(states, bytes) else b"", digest_size=8).digest()
