"""Files that list items: a column of ids, or one id per line; and ids with a factor each."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from flr_model import columns
from flr_model.errors import DataError
from flr_model.files.cells import CellError, as_id, shown
from flr_model.files.header import find_columns, occurs_again
from flr_model.files.reading import Reading
from flr_model.files.rows import Rejects
from flr_model.files.tables import Table, open_table

FACTOR_NAMES = ("factor", "boost", "weight")
"""Names of a column of factors, as names are compared."""

LARGEST_FACTOR = 1e9
"""Far more than any boost needs; with much larger ones the results would be infinite, with much smaller ones 0."""


def read_ids(path: Path, reading: Reading) -> list[str]:
    """Return the distinct item ids of a file, in its order.

    The first line of a text is an id unless it has a name that is given, remembered or known.

    Args:
        path: a table with a column of items, or with one column.
        reading: what is known of the file; the name of the items may be that of another file.

    Raises:
        DataError: if the file cannot be read, has no such column, or a row without an id.
    """
    table = open_table(path, replace(reading, header=False))
    name = table.names[0]
    if len(table.names) > 1:
        name = find_columns(table, [columns.ITEM], reading=reading, elsewhere=[columns.ITEM])[columns.ITEM]
    found: dict[str, None] = {}
    rejects, rows = Rejects(path), 0
    for row in table.rows([name]):
        rows += 1
        if row.cells is None:
            rejects.add(row.line, row.problem)
            continue
        try:
            item_id = as_id(row.cells[0])
        except CellError as error:
            rejects.add(row.line, error.what, shown(error.cell))
            continue
        if item_id:
            found[item_id] = None
        else:
            rejects.add(row.line, "no item id")
    rejects.check(rows, hint="correct these lines", strict=True)
    return list(found)


def read_factors(path: Path, reading: Reading) -> dict[str, float]:
    """Return the factor of each item id of a file.

    Args:
        path: a table with a column of items and a column named factor (or boost, or weight).
        reading: what is known of the file; the name of the items may be that of another file.

    Raises:
        DataError: if the file cannot be read, lacks a column, has it twice, or has a row without an id or a factor
            that can be used, or an id twice.
    """
    table = open_table(path, reading)
    item = find_columns(table, [columns.ITEM], reading=reading, elsewhere=[columns.ITEM])[columns.ITEM]
    factor = _column_of_factors(table)
    found: dict[str, float] = {}
    rejects, rows = Rejects(path), 0
    for row in table.rows([item, factor]):
        rows += 1
        if row.cells is None:
            rejects.add(row.line, row.problem)
            continue
        try:
            item_id, value = as_id(row.cells[0]), _factor(row.cells[1])
        except CellError as error:
            rejects.add(row.line, error.what, shown(error.cell))
            continue
        if not item_id or item_id in found:
            rejects.add(row.line, "an item id again" if item_id else "no item id")
        found[item_id] = value
    rejects.check(rows, hint="correct these lines", strict=True)
    return found


def _column_of_factors(table: Table) -> str:
    found = [name for name in table.names if columns.normalized(name) in FACTOR_NAMES]
    if len(found) == 1 and not occurs_again(table, found[0]):
        return found[0]
    raise DataError(
        f"{table.path} has {'several columns' if found else 'no column'} of factors; "
        f"its columns are {', '.join(map(repr, table.names))}",
        hint=f"name one of them {FACTOR_NAMES[0]}: a first line such as item_id,{FACTOR_NAMES[0]}",
    )


def _factor(cell: Any) -> float:
    try:
        value = math.nan if isinstance(cell, bool) or "_" in str(cell) else float(cell)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not 1 / LARGEST_FACTOR <= value <= LARGEST_FACTOR:
        raise CellError(f"a factor that is no number from {1 / LARGEST_FACTOR:g} to {LARGEST_FACTOR:g}", cell)
    return value
