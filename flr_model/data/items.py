"""The items file: ids and titles, and the catalogue made of them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flr_model import columns
from flr_model.data.catalog import Catalog
from flr_model.errors import DataError, counted
from flr_model.files.csvfile import CsvFile, has_known_name
from flr_model.files.tables import JsonFile, Table, find_columns, in_rows, open_table
from flr_model.files.values import as_ids, as_texts

logger = logging.getLogger(__name__)

_JUNK = re.compile(r"<\s*/?\s*[a-z][\w-]*(\s+[\w-]+\s*=|\s*/?>)|getTime\(\)", re.IGNORECASE)


@dataclass(frozen=True)
class ItemFile:
    """What an items file says.

    Args:
        path: the file.
        about: how it was read.
        item_ids: (M,) distinct ids, in the file's order.
        titles: (M,) titles; "" where the cell is empty.
    """

    path: Path
    about: str
    item_ids: npt.NDArray[Any]
    titles: npt.NDArray[Any]


def open_items(path: Path, names: Mapping[str, str]) -> Table:
    """Open an items file; where neither flr nor ``names`` knows either of two columns, the first line is a row.

    Raises:
        DataError: if the file cannot be read.
    """
    table = open_table(path)
    bare = isinstance(table, CsvFile) and len(table.names) == 2 and not has_known_name(table.names)
    if isinstance(table, CsvFile) and bare and not (table.header and named_in(table, names)):
        return table.without_header()
    return table


def named_in(table: Table, names: Mapping[str, str]) -> list[str]:
    """Return those of the columns of an items file whose given names the table has."""
    spelled = set(map(columns.normalized, table.names))
    return [c for c in (columns.ITEM, columns.TITLE) if c in names and columns.normalized(names[c]) in spelled]


def read_items(table: Table, names: Mapping[str, str], known: npt.NDArray[Any]) -> ItemFile:
    """Read ids and titles.

    A product that Amazon's metadata (JSON) lists twice with one title counts once; elsewhere a repeated id is an error.

    Args:
        table: what `open_items` returns.
        names: the user's names for columns, keyed as in `flr_model.columns`.
        known: (I,) ids that occur elsewhere; they tell which of two columns without names has the ids.

    Raises:
        DataError: if the file cannot be read, lacks a column, has rows without an id, or has an id twice.
    """
    path = table.path
    if isinstance(table, CsvFile) and not table.header and len(table.names) == 2:
        table, names = _told_apart(table, names, known)
    found = find_columns(table, (columns.ITEM, columns.TITLE), given=names, elsewhere=(columns.ITEM,))
    data = table.read(list(found.values()))
    codes, ids = as_ids(data[found[columns.ITEM]])
    titles = as_texts(data[found[columns.TITLE]])
    if (codes < 0).any():
        rows = np.flatnonzero(codes < 0)
        raise DataError(
            f"{path}: {found[columns.ITEM]} is empty {in_rows(table, rows)}",
            hint="give every item an id, or remove these rows",
        )
    frame = pd.DataFrame({"code": codes, "title": titles})
    if isinstance(table, JsonFile):
        frame = frame.drop_duplicates()
    _refuse_repeated(frame, ids, table)
    return ItemFile(path, table.about, ids[frame["code"]], frame["title"].to_numpy(object))


def _told_apart(table: CsvFile, names: Mapping[str, str], known: npt.NDArray[Any]) -> tuple[Table, dict[str, str]]:
    """Name two columns: that with the known ids, and the titles. The papers' files are such: title, tab, id."""
    data = table.read(table.names)
    hits = [int(pd.Index(as_ids(data[name])[1]).isin(known).sum()) for name in table.names]
    item, title = table.names if hits[0] > hits[1] else table.names[::-1]
    if columns.TITLE in names:
        if names[columns.TITLE] not in table.names:
            return table, dict(names)  # which `find_columns` refuses
        title = names[columns.TITLE]
        item = table.names[1 - table.names.index(title)]
    elif not any(hits):
        raise DataError(
            f"{table.path}: neither of its two columns has the ids of the interactions, such as {_some(known)}",
            hint="name the columns by number, for instance --item-col 2 --title-col 1",
        )
    first = data.slice(0, 1).to_pylist()[0]
    if first[item] not in known and not re.search(r"\d", first[item] + first[title]):  # names that flr does not know
        headed = open_table(table.path)
        item, title = (headed.names[table.names.index(name)] for name in (item, title))
        return headed, {**names, columns.ITEM: item, columns.TITLE: title}
    return table, {**names, columns.ITEM: item, columns.TITLE: title}


def build_catalog(file: ItemFile, used: npt.NDArray[Any], *, only_used: bool = False) -> tuple[Catalog, int]:
    """Make the catalogue: the file's items in its order, then used items that it lacks, titled by their ids.

    Args:
        file: the items file.
        used: (I,) distinct ids that occur in interactions.
        only_used: leave out items that occur in no interaction.

    Returns:
        The catalogue, and the number of its items whose title is their id.

    Raises:
        DataError: if more than half of the used items have no title, or fewer than two items are left.
    """
    used = pd.unique(_as_known(used, file.item_ids))
    refuse_untitled(file, used, "interactions")
    lacking = used[~pd.Index(used).isin(pd.Index(file.item_ids))]
    ids = np.concatenate([file.item_ids, lacking])
    titles = np.concatenate([file.titles, np.full(len(lacking), "", object)])
    if only_used:
        keep = np.asarray(pd.Index(ids).isin(pd.Index(used)))
        ids, titles = ids[keep], titles[keep]
    if len(ids) < 2:
        raise DataError(
            f"{file.path}: the catalogue has one item ({_some(ids)}), there is nothing to rank",
            hint="give at least two items; check --item-col",
        )
    untitled = titles == ""
    if count := int(untitled.sum()):
        logger.warning("%s: no title for %s; the id stands for it", file.path, counted(count, "item"))
    return Catalog(ids, np.where(untitled, ids, titles)), count


def refuse_untitled(file: ItemFile, used: npt.NDArray[Any], place: str) -> None:
    """Refuse a file that lacks the titles of most items; ``place`` says where those items occur.

    Raises:
        DataError: if the file has no titles at all, or more than half of the (I,) used items have none.
    """
    if not (file.titles != "").any():
        raise DataError(
            f"{file.path}: the title column is empty in all of its {counted(len(file.titles), 'row')}",
            hint="name the column of the titles with --title-col",
        )
    used = _as_known(used, file.item_ids)
    bare = used[~pd.Index(used).isin(pd.Index(file.item_ids[file.titles != ""]))]
    if 2 * len(bare) > len(used):
        raise DataError(
            f"{file.path}: no title for {len(bare):,} of the {counted(len(used), 'item')} of the {place}, "
            f"for instance {_some(bare)}; the ids in this file are like {_some(file.item_ids)}",
            hint="check --item-col and --title-col, and that all files are of the same catalogue",
        )


def _as_known(ids: npt.NDArray[Any], known: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ids as `Catalog.positions` understands them: an unknown "12.0" is "12" where that occurs."""
    short = np.asarray([item_id.removesuffix(".0") for item_id in ids], object)
    occurs = pd.Index(short).isin(np.concatenate([known, ids]))
    return np.where(~pd.Index(ids).isin(known) & occurs, short, ids)


def junk_titles(titles: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """(M,) whether a title is a scrap of a web page rather than a name."""
    return np.fromiter((bool(_JUNK.search(title)) for title in titles), np.bool_, count=len(titles))


def _refuse_repeated(frame: pd.DataFrame, ids: npt.NDArray[Any], table: Table) -> None:
    repeated = frame.index[frame["code"].duplicated()].to_numpy()
    if len(repeated) == 0:
        return
    shown = ", ".join(
        f"{ids[frame['code'][row]]!r} again in {line}"
        for row, line in zip(repeated[:3], table.lines(repeated[:3].tolist()), strict=True)
    )
    raise DataError(
        f"{table.path}: {counted(frame['code'][repeated].nunique(), 'item id')} more than once in the file ({shown})",
        hint="keep one row per item; check --item-col",
    )


def _some(ids: npt.NDArray[Any]) -> str:
    return ", ".join(repr(str(item_id)) for item_id in ids[:3])
