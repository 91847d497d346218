"""One object a line: JSON, or the Python dictionaries of the 2014 Amazon files."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from flr_model.errors import DataError
from flr_model.files.reading import Reading
from flr_model.files.rows import Row
from flr_model.files.textfiles import find_encoding, open_text, readable

_SAMPLED_RECORDS = 1000


@dataclass(frozen=True)
class JsonFile:
    """A file of records whose fields are known.

    Args:
        path: the file, plain or gzip.
        names: the fields of the first records.
        encoding: as Python names it.
    """

    path: Path
    names: tuple[str, ...]
    encoding: str
    about: str = "JSON Lines"

    @classmethod
    def open(cls, path: Path, reading: Reading) -> JsonFile:
        """Take the names from the first records.

        Raises:
            DataError: if the file is damaged, its first line is not an object, or its objects are empty.
        """
        encoding = find_encoding(path, reading.encoding)
        names: dict[str, None] = {}
        for number, record in islice(_records(path, encoding), _SAMPLED_RECORDS):
            if record is None and not names:
                raise DataError(
                    f"{path}: line {number} is not a JSON object", hint="write one JSON object per line, or a CSV file"
                )
            names.update(dict.fromkeys(map(_clean, record or ())))
        if not names:
            raise DataError(f"{path} has only empty objects", hint="check how the file was made")
        return cls(path, tuple(names), encoding)

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """Give the named fields of every record, as Python values; None where a record lacks the field.

        Raises:
            DataError: if the file is damaged.
        """
        for number, record in _records(self.path, self.encoding):
            if record is None:
                yield Row(number, None, "no JSON object")
            else:
                yield Row(number, [_clean(record.get(name)) for name in names])


def _records(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Give each line that is not blank with its number; None where it is not an object."""
    with readable(path), open_text(path, encoding) as text:
        for number, line in enumerate(text, start=1):
            if line.strip():
                yield number, _record(line)


def _record(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return value if isinstance(value, dict) and all(isinstance(name, str) for name in value) else None


def _clean(value: Any) -> Any:
    """Replace half a surrogate pair, which is valid JSON, but no text."""
    if isinstance(value, list):
        return [_clean(element) for element in value]
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode("utf-8")
    return value
