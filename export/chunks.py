"""From entries of the input to ranked chunks.

Users go through in chunks of ``batch_size`` in the input's order, whatever was interrupted before, so that the same
input gives the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from export.inputs import Entry, HistoryFile, InputColumns, Shard
from export.pipeline import ahead
from flr_model.columns import normalized
from flr_model.config import ScoreConfig
from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD, HistoryRows
from flr_model.data.tables import open_table
from flr_model.errors import DataError
from flr_model.ranking import Ints, Ranking, Recommender

log = logging.getLogger(__name__)

LARGEST_SCORES = 1 << 24
"""Numbers in one matrix of scores; with a large catalogue fewer users are ranked at once."""

Candidates = dict[str, Ints]


class Chunk(NamedTuple):
    """Some entries of the input, in order.

    Args:
        entries: all of them.
        rows: histories of those that can be scored.
        members: which entry each row is.
        allowed: candidates of each row; None means all items.
        reasons: why an entry is rejected, by its number.
        unknown: items that are not known, one per interaction.
    """

    entries: list[Entry]
    rows: HistoryRows
    members: list[int]
    allowed: list[Ints | None] | None
    reasons: dict[int, str]
    unknown: list[str]


def read_candidates(path: Path, catalog: Catalog, names: InputColumns) -> Candidates:
    """Read which items each user may be given, in long or wide form; unknown items are counted in one warning.

    Args:
        path: pairs of user and item, or a list of items per user.
        catalog: the items that can be ranked.
        names: of the columns of the histories; they count where this file has them too.

    Raises:
        DataError: if the file cannot be read or has broken lines.
    """
    found: Candidates = {}
    problems, unknown = [], 0
    spelled = set(map(normalized, open_table(path).names))
    user, item = (name if name and normalized(name) in spelled else None for name in (names.user, names.item))
    for entry in HistoryFile.open(path, InputColumns(user=user, item=item)).entries():
        if entry.problem:
            problems.append(f"line {entry.line}: {entry.problem}")
            continue
        positions = find_items(catalog, entry.items)
        unknown += int((positions == PAD).sum())
        known = positions[positions != PAD]
        found[entry.user] = np.union1d(found[entry.user], known) if entry.user in found else known
    if problems:
        raise DataError(f"{path} has {len(problems)} bad lines: {'; '.join(problems[:3])}", hint="correct these lines")
    if unknown:
        log.warning("%s: %d candidates are unknown items and left out", path, unknown)
    return found


def find_items(catalog: Catalog, item_ids: list[str]) -> Ints:
    """Return the positions of ids, PAD where unknown; "12.0" is also "12", as a column of numbers with gaps has it."""
    positions = catalog.positions(item_ids)
    for place in np.flatnonzero(positions == PAD).tolist():
        if item_ids[place].endswith(".0"):
            positions[place] = catalog.positions([item_ids[place][:-2]])[0]
    return positions


@dataclass(frozen=True)
class Scoring:
    """The steps from the input to ranked chunks."""

    recommender: Recommender
    source: HistoryFile
    candidates: Candidates | None
    shard: Shard
    config: ScoreConfig

    def n_users(self) -> int | None:
        """Return about how many users this part has, where that is known."""
        n_users = self.source.n_users
        return None if n_users is None else -(-n_users // self.shard.count)

    def chunks(self, skip: int) -> Iterator[Chunk]:
        """Read the input in chunks, leaving out the entries that are done."""
        entries = islice(filter(self.shard.holds, self.source.entries()), skip, None)
        while chunk := list(islice(entries, self.config.batch_size)):
            yield self._prepare(chunk)

    def ranked(self, skip: int) -> Iterator[tuple[Chunk, Ranking | None]]:
        """Rank each chunk; None where none of its entries can be scored."""
        with closing(ahead(self.chunks(skip))) as chunks:
            for chunk in chunks:
                yield chunk, self._rank(chunk) if chunk.members else None

    def _prepare(self, entries: list[Entry]) -> Chunk:
        positions = find_items(self.recommender.catalog, [item for entry in entries for item in entry.items])
        starts = np.concatenate([[0], np.cumsum([len(entry.items) for entry in entries])]).astype(np.int64)
        reasons: dict[int, str] = {}
        members: list[int] = []
        known_items, known_times, unknown = [], [], []
        for number, entry in enumerate(entries):
            own = positions[starts[number] : starts[number + 1]].tolist()
            known = [place for place, position in enumerate(own) if position != PAD]
            if len(known) < len(own):
                unknown += [item for item, position in zip(entry.items, own, strict=True) if position == PAD]
            reason = entry.problem or self._no_use(entry, len(known))
            if reason:
                reasons[number] = reason
                continue
            members.append(number)
            known_items.append([own[place] for place in known])
            known_times.append([entry.times[place] for place in known])
        users = [entries[number].user for number in members]
        rows = HistoryRows.from_lists(known_items, user_id=users, times=known_times)
        allowed: list[Ints | None] | None = None
        if self.candidates is not None:
            allowed = [self.candidates[user] for user in users]
        return Chunk(entries, rows, members, allowed, reasons, unknown)

    def _no_use(self, entry: Entry, n_known: int) -> str:
        if not n_known:
            return f"none of its {len(entry.items)} items is known, for instance {', '.join(entry.items[:3])}"
        if self.candidates is not None and entry.user not in self.candidates:
            return "no candidates are given for it"
        return ""

    def _rank(self, chunk: Chunk) -> Ranking:
        step = max(1, LARGEST_SCORES // len(self.recommender.catalog))
        parts = [
            self.recommender.recommend(
                chunk.rows.select(slice(start, start + step)),
                self.config.top_k,
                allow_seen=self.config.allow_seen,
                candidates=None if chunk.allowed is None else chunk.allowed[start : start + step],
            )
            for start in range(0, len(chunk.rows), step)
        ]
        return Ranking(*(np.concatenate([getattr(p, name) for p in parts]) for name in Ranking.__dataclass_fields__))
