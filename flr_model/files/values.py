"""Cells of a column as ids, texts and times.

Shapes: E rows of the column, D distinct values.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flr_model.files.times import LATEST, NO_TIME, parse_time

Ints = npt.NDArray[np.int64]

MICROSECONDS = 1_000_000
"""Ticks of a second in `as_times`."""

_WHOLE = re.compile(r"-?\d+\.0")
_NO_TEXT = {"", "nan", "NaN"}
_NO_ID = {*_NO_TEXT, "None", "null"}


def as_ids(column: pa.ChunkedArray) -> tuple[Ints, npt.NDArray[Any]]:
    """Number the ids of a column; an id is a string whatever type the file gave it.

    Whole floats lose their ".0" (a column of numbers with gaps is often written so), but only when all of them have it.

    Returns:
        (E,) number of each cell, -1 where it is missing; (D,) the ids, in order of first appearance.
    """
    codes, texts = _distinct(column)
    ids = [None if text is None or text.strip() in _NO_ID else text.strip() for text in texts]
    if all(text is None or _WHOLE.fullmatch(text) for text in ids):
        ids = [text and text[:-2] for text in ids]
    merged, distinct = pd.factorize(np.asarray(ids, object))
    return _take(merged.astype(np.int64), codes, -1), np.asarray(distinct, object)


def as_texts(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """(E,) the texts of a column without surrounding space; "" where missing."""
    codes, texts = _distinct(column)
    clean = ["" if text is None or text.strip() in _NO_TEXT else text.strip() for text in texts]
    return np.asarray([*clean, ""], object)[codes]


def as_times(column: pa.ChunkedArray) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Read each cell as a time, as `flr_model.files.times.parse_time` does.

    Returns:
        (E,) microseconds since 1970, 0 where unreadable; (E,) whether the cell is unreadable.
    """
    if pa.types.is_temporal(column.type):
        ticks = pc.cast(pc.cast(column, pa.timestamp("us"), safe=False), pa.int64())
        return pc.fill_null(ticks, 0).to_numpy().astype(np.int64), pc.is_null(column).to_numpy()
    try:
        return _ticks(pc.fill_null(pc.cast(column, pa.float64(), safe=False), float("nan")).to_numpy())
    except pa.ArrowInvalid:  # dates, blanks or faults among them
        codes, texts = _distinct(column)
    seconds = np.fromiter(map(_seconds, texts), np.float64, count=len(texts))
    ticks = np.round(np.nan_to_num(seconds) * MICROSECONDS).astype(np.int64)
    return _take(ticks, codes, 0), _take(np.isnan(seconds), codes, True)


def _seconds(text: str | None) -> float:
    try:
        return parse_time(text)
    except ValueError:
        return float("nan")


def _distinct(column: pa.ChunkedArray) -> tuple[Ints, list[str | None]]:
    """Return (E,) the number of each cell's text, -1 for null, and the (D,) texts."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
        if pc.all(pc.equal(pc.floor(column), column)).as_py() is not False:
            column = pc.cast(column, pa.int64())
    encoded = pc.cast(column, pa.string()).dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    return pc.fill_null(encoded.indices, -1).to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _take(values: npt.NDArray[Any], codes: Ints, missing: Any) -> npt.NDArray[Any]:
    """Look codes up; -1 gives ``missing``."""
    return np.append(values, np.asarray([missing], values.dtype))[codes]


def _ticks(numbers: npt.NDArray[np.float64]) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Turn numbers since 1970, each of the unit that its magnitude tells, into microseconds."""
    size = np.abs(numbers)
    bad = ~(size < NO_TIME)
    smaller = [size < LATEST * 1000**step for step in range(3)]
    scale = np.select(smaller, [1e6, 1e3, 1.0], 1e-3)
    return np.round(np.where(bad, 0.0, numbers) * scale).astype(np.int64), bad
