"""A file that lists items: a column of ids, or one id per line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flr_model import columns
from flr_model.files.cells import CellError, as_id, shown
from flr_model.files.header import find_columns
from flr_model.files.reading import Reading
from flr_model.files.rows import Rejects
from flr_model.files.tables import open_table


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
