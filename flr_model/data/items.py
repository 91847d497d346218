"""The items file: ids and titles, and the catalogue made of them."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flr_model import columns
from flr_model.data.catalog import TITLES_ALONE, Catalog, MoreOfItems
from flr_model.data.details import Details
from flr_model.data.item_text import TITLE_ALONE, ItemText
from flr_model.errors import DataError, pluralize
from flr_model.files.cells import CellError, as_id, as_text, shown
from flr_model.files.csvfile import CsvFile
from flr_model.files.dialect import is_known
from flr_model.files.header import find_columns, has_column
from flr_model.files.reading import Reading
from flr_model.files.rows import Rejects, Row
from flr_model.files.tables import Table, open_table, sample

logger = logging.getLogger(__name__)

Strings = npt.NDArray[Any]

_JUNK = re.compile(r"<\s*/?\s*[a-z][\w-]*(\s+[\w-]+\s*=|\s*/?>)|getTime\(\)", re.IGNORECASE)


@dataclass(frozen=True)
class ItemFile:
    """What an items file says.

    Args:
        path: the file.
        about: how it was read.
        item_ids: (M,) distinct ids, in the file's order.
        titles: (M,) titles; "" where the cell is empty.
        rejects: rows that are left out.
        found: name in the file of each column.
        details: (M,) cells of the other columns, by name.
        item_text: what the model reads of an item.
    """

    path: Path
    about: str
    item_ids: npt.NDArray[Any]
    titles: npt.NDArray[Any]
    rejects: Rejects
    found: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    item_text: str = TITLE_ALONE

    def more_of(self, ids: npt.NDArray[Any], titles: npt.NDArray[Any]) -> MoreOfItems:
        """Return texts and details of n items; of one that the file lacks, the text is its title.

        Args:
            ids: (n,) ids.
            titles: (n,) titles.
        """
        if self.item_text == TITLE_ALONE and not self.details:
            return TITLES_ALONE
        places = pd.Index(self.item_ids).get_indexer(pd.Index(ids))
        details = {name: np.where(places < 0, "", values[places]) for name, values in self.details.items()}
        if self.item_text == TITLE_ALONE:
            return MoreOfItems(None, details)
        lists = {name: values.tolist() for name, values in details.items()}
        texts = np.asarray(ItemText(self.item_text).of(titles.tolist(), lists), object)
        return MoreOfItems(np.where(texts == "", titles, texts), details)


def open_items(path: Path, reading: Reading) -> Table:
    """Open an items file; where nobody knows either of two columns by its name, the first line is a row.

    Raises:
        DataError: if the file cannot be read.
    """
    table = open_table(path, reading)
    if not isinstance(table, CsvFile) or len(table.names) != 2 or any(map(is_known, table.names)):
        return table
    return table if table.dialect.header and named_in(table, reading) else table.without_header()


def named_in(table: Table, reading: Reading) -> tuple[str, ...]:
    """Return those of the columns of an items file whose given names the table has."""
    names = {**reading.remembered, **reading.names}
    return tuple(c for c in (columns.ITEM, columns.TITLE) if c in names and has_column(table, names[c]))


def read_items(
    table: Table, reading: Reading, known: npt.NDArray[Any],
    *, repeated: bool = False, taken: Collection[str] = (), strict: bool = False,
) -> ItemFile:  # fmt: skip
    """Read ids, titles, and the other columns. An item that is listed again with the same title counts once.

    Args:
        table: what `open_items` returns.
        reading: what is known of the file.
        known: (I,) ids that occur elsewhere; they tell which of the columns without names has the ids.
        repeated: the file has a row per interaction; the commonest title of an item counts.
        taken: columns of something else, such as the users.
        strict: refuse the file at its first broken row.

    Raises:
        DataError: if the file cannot be read, lacks a column, too many rows lack an id, or an id has two titles.
    """
    if isinstance(table, CsvFile) and not table.dialect.header:
        table, reading = _infer_columns(table, reading, known)
    found = find_columns(table, (columns.ITEM, columns.TITLE), reading=reading, elsewhere=(columns.ITEM,))
    details = Details(table, {*found.values(), *taken}, repeated=repeated)
    titles: dict[str, Counter[str]] = {}
    rejects, again, rows = Rejects(table.path), Rejects(table.path), 0
    for row in table.rows([found[columns.ITEM], found[columns.TITLE], *details.names]):
        rows += 1
        try:
            item_id, title = _id_and_title(row)
        except CellError as error:
            rejects.add(row.line, error.what, "" if error.cell is None else shown(error.cell))
            continue
        details.add(item_id, row.cells[2:] if row.cells else ())
        if not item_id:
            rejects.add(row.line, "no item id", broken=not repeated)
        elif (had := titles.get(item_id)) is None:
            titles[item_id] = Counter([title])
        else:
            if not repeated and title not in had:
                again.add(row.line, "an item id again, with another title", shown(item_id))
            had[title] += 1
    rejects.check(rows, hint="give every item an id and a title, close quotes, or name the columns", strict=strict)
    _refuse_repeated(again)
    if len(rejects) and not repeated:
        logger.warning("%s: left out: %s", table.path, rejects.summary())
    best, ids = _one_title_each(table.path, titles), np.asarray(list(titles), object)
    return ItemFile(table.path, table.about, ids, best, rejects, found, details.of(list(titles)), reading.item_text)


def _id_and_title(row: Row) -> tuple[str, str]:
    if row.cells is None:
        raise CellError(row.problem)
    return as_id(row.cells[0]), as_text(row.cells[1])


def _one_title_each(path: Path, titles: Mapping[str, Counter[str]]) -> npt.NDArray[Any]:
    if renamed := sum(len(counts) > 1 for counts in titles.values()):
        logger.warning("%s: %s with several titles; the commonest counts", path, pluralize(renamed, "item"))
    return np.asarray([_commonest(counts) for counts in titles.values()], object)


def _commonest(counts: Counter[str]) -> str:
    return max(counts, key=lambda title: (title != "", counts[title]))


def _infer_columns(table: CsvFile, reading: Reading, known: npt.NDArray[Any]) -> tuple[Table, Reading]:
    """Name the columns of ids and titles by the ids that are known. The papers' files are such: title, tab, id."""
    names, title, given = table.names, reading.names.get(columns.TITLE), reading.names.get(columns.ITEM)
    told = title is not None and given in names and given != title
    if told or len(names) < 2 or (title not in names if title is not None else len(names) != 2):
        return table, reading  # as it is told, or refused by `find_columns`
    hits = {name: _hits(table, name, known) for name in names if name != title}
    if title is None and not any(hits.values()):
        raise DataError(
            f"{table.path}: neither of its two columns has the ids of the interactions, such as {_some(known)}",
            hint="name the columns by number, for instance --item-col items=2 --title-col items=1",
        )
    item = max(reversed(hits), key=lambda name: hits[name])
    title = title or names[1 - names.index(item)]
    if given is not None:
        logger.warning(
            "%s: column %s has the ids of the interactions; --item-col items=%s says so", table.path, item, item
        )
    headed = open_table(table.path, replace(reading, names={}))
    first = "".join(str(cell) for name in (item, title) for cell in sample(table, name, 1))
    if headed.names != names and not set(sample(table, item, 1)) & set(known.tolist()) and not re.search(r"\d", first):
        item, title = (headed.names[names.index(name)] for name in (item, title))  # names that flr does not know
    else:
        headed = table
    return headed, replace(reading, names={**reading.names, columns.ITEM: item, columns.TITLE: title})


def _hits(table: Table, name: str, known: npt.NDArray[Any]) -> int:
    """Count the known ids that occur in a column."""
    wanted, found = set(known.tolist()), set[str]()
    for row in table.rows([name]):
        try:
            item_id = as_id(row.cells[0]) if row.cells else ""
        except CellError:
            continue
        if item_id in wanted:
            found.add(item_id)
    return len(found)


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
    refuse_untitled(file, used, "interactions")
    ids, titles = with_lacking(file, used, only_used=only_used)
    if len(ids) < 2:
        raise DataError(
            f"{file.path}: the catalogue has one item ({_some(ids)}), there is nothing to rank",
            hint="give at least two items; check --item-col",
        )
    titles, untitled = or_ids(file.path, ids, titles)
    return Catalog(ids, titles, file.more_of(ids, titles)), untitled


def with_lacking(file: ItemFile, used: npt.NDArray[Any], *, only_used: bool) -> tuple[Strings, Strings]:
    """Return ids and titles of the file's items in its order, then of used ones that it lacks, whose titles are ""."""
    lacking = used[~pd.Index(used).isin(pd.Index(file.item_ids))]
    ids = np.concatenate([file.item_ids, lacking])
    titles = np.concatenate([file.titles, np.full(len(lacking), "", object)])
    if only_used:
        keep = np.asarray(pd.Index(ids).isin(pd.Index(used)))
        ids, titles = ids[keep], titles[keep]
    return ids, titles


def or_ids(path: Path, ids: Strings, titles: Strings) -> tuple[Strings, int]:
    """Let ids stand for titles that are missing, and return their number too."""
    untitled = titles == ""
    if count := int(untitled.sum()):
        logger.warning("%s: no title for %s; the id stands for it", path, pluralize(count, "item"))
    return np.where(untitled, ids, titles), int(untitled.sum())


def refuse_untitled(file: ItemFile, used: npt.NDArray[Any], place: str) -> None:
    """Refuse a file that lacks the titles of most items; ``place`` says where those items occur.

    Raises:
        DataError: if the file has no titles at all, or more than half of the (I,) used items have none.
    """
    if not (file.titles != "").any():
        raise DataError(
            f"{file.path}: the title column is empty in all of its {pluralize(len(file.titles), 'row')}",
            hint="name the column of the titles with --title-col",
        )
    bare = used[~pd.Index(used).isin(pd.Index(file.item_ids[file.titles != ""]))]
    if 2 * len(bare) > len(used):
        raise DataError(
            f"{file.path}: no title for {len(bare):,} of the {pluralize(len(used), 'item')} of the {place}, "
            f"for instance {_some(bare)}; the ids in this file are like {_some(file.item_ids)}",
            hint="check --item-col and --title-col (of this file alone: items=NAME); are all files of one catalogue?",
        )


def junk_titles(titles: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """(M,) whether a title is a scrap of a web page rather than a name."""
    return np.fromiter((bool(_JUNK.search(title)) for title in titles), np.bool_, count=len(titles))


def _refuse_repeated(again: Rejects) -> None:
    if not len(again):
        return
    repeated = [cell for _, cell in again.reasons]
    places = [f"{repeated[code]} again in line {line}" for line, code in zip(again.lines, again.codes, strict=True)]
    raise DataError(
        f"{again.path}: {pluralize(len(repeated), 'item id')} more than once in the file ({', '.join(places[:3])})",
        hint="keep one row per item; check --item-col. Orders that have the titles too are given without --items",
    )


def _some(ids: npt.NDArray[Any]) -> str:
    return ", ".join(repr(str(item_id)) for item_id in ids[:3])
