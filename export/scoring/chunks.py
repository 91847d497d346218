"""From entries of the input to ranked chunks.

Users are read and written in chunks, in the input's order and at the same places whatever was interrupted before, so
that the same input gives the same bytes. Inside a chunk they are ranked by length in batches, by several threads.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flr_export.scoring.batching import BatchLimit, batches
from flr_export.scoring.inputs import Entry, HistoryFile
from flr_export.scoring.most_per import Limit
from flr_export.scoring.popular import MODEL, POPULAR, Popular
from flr_export.scoring.prefetch import prefetch
from flr_model.arrays import Bools, Floats, Ints
from flr_model.config import ScoreConfig
from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD, HistoryRows
from flr_model.errors import DataError
from flr_model.files.header import has_column
from flr_model.files.reading import Reading
from flr_model.files.tables import open_table
from flr_model.ranking.candidates import Candidates
from flr_model.ranking.recommender import Ranking, Recommender

logger = logging.getLogger(__name__)

FIRST_CHUNK = 256
"""Entries of the first chunk: the first results are on disk early. Later chunks double up to ``batch_size``."""

UserCandidates = dict[str, Ints]
"""The positions that each user may be given, ascending."""


class Chunk(NamedTuple):
    """Some entries of the input, in order.

    Args:
        entries: all of them.
        rows: histories of those that the recommender ranks for.
        read: which entry each row is.
        candidates: of each row.
        reasons: why an entry is rejected, by its number.
        unknown: items that are not known, one per interaction.
        popular: why an entry gets the most popular items, by its number.
    """

    entries: list[Entry]
    rows: HistoryRows
    read: list[int]
    candidates: Candidates
    reasons: dict[int, str]
    unknown: list[str]
    popular: dict[int, str]

    @property
    def members(self) -> list[int]:
        """The entries that each row of the ranking is, in order."""
        return sorted([*self.read, *self.popular])

    @property
    def users(self) -> list[str]:
        """Whose lists the rows of the ranking are."""
        return [self.entries[number].user for number in self.members]

    @property
    def sources(self) -> list[str]:
        """Where the lists come from: the model, or what is popular."""
        return [POPULAR if number in self.popular else MODEL for number in self.members]


def read_candidates(path: Path, catalog: Catalog, reading: Reading | None = None) -> UserCandidates:
    """Read which items each user may be given, in long or wide form; unknown items are counted in one warning.

    Args:
        path: pairs of user and item, or a list of items per user.
        catalog: the items that can be ranked.
        reading: what is known of the file; its names may be those of the histories, and count where this file has them.

    Raises:
        DataError: if the file cannot be read or has broken lines.
    """
    found: UserCandidates = {}
    problems, unknown = [], 0
    reading = reading or Reading()
    table = open_table(path, reading)
    here = {column: name for column, name in reading.names.items() if has_column(table, name)}
    for entry in HistoryFile.open(path, replace(reading, names=here, time=False), ordered=False).entries():
        if entry.problem:
            problems.append(f"line {entry.line}: {entry.problem}")
            continue
        positions = catalog.positions(entry.items)
        unknown += int((positions == PAD).sum())
        known = positions[positions != PAD]
        found[entry.user] = np.union1d(found.get(entry.user, known), known)
    if problems:
        raise DataError(f"{path} has {len(problems)} bad lines: {'; '.join(problems[:3])}", hint="correct these lines")
    if unknown:
        logger.warning("%s: %d candidates are unknown items and left out", path, unknown)
    return found


@dataclass(frozen=True)
class Scoring:
    """The steps from entries to ranked chunks.

    Args:
        recommender: ranks.
        config: how many items, which of them, and in what chunks.
        candidates: of each user; None means all items.
        offered: (M,) the items that anybody can be given; None means all.
        boost: (M,) added to the logarithm of each item's probability; None adds nothing.
        limit_per: how many items of one value a list may have; None for any number.
        workers: batches ranked at once.
        limit: size of a batch.

    Attributes:
        popular: ranks for users of whom nothing is known; None rejects them.

    Raises:
        ArtifactError: if the popular items are asked for and not known.
    """

    recommender: Recommender
    config: ScoreConfig
    candidates: UserCandidates | None = None
    offered: Bools | None = None
    boost: Floats | None = None
    limit_per: Limit | None = None
    workers: int = 1
    limit: BatchLimit = field(default_factory=BatchLimit)
    popular: Popular | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.config.fallback == "popular":
            popular = Popular.of(self.recommender, self.config.top_k, self.offered, self.boost, self.limit_per)
            object.__setattr__(self, "popular", popular)

    def chunks(self, entries: Iterator[Entry], skip: int = 0) -> Iterator[Chunk]:
        """Prepare entries in chunks, leaving out the first ones, which are done."""
        todo, done = islice(entries, skip, None), skip
        while chunk := list(islice(todo, min(self.config.batch_size, max(done, FIRST_CHUNK)))):
            done += len(chunk)
            yield self._prepare(chunk)

    def rank_all(self, entries: list[Entry]) -> tuple[Chunk, Ranking | None]:
        """Rank entries as one chunk, here and now; None where none of them can be scored."""
        chunk = self._prepare(entries)
        parts = self._parts(chunk)
        return chunk, self._in_order(chunk, parts, [self._rank(chunk, part) for part in parts])

    def ranked(self, entries: Iterator[Entry], skip: int = 0) -> Iterator[tuple[Chunk, Ranking | None]]:
        """Rank each chunk, with several workers.

        While one chunk's last batches are computed, those of the next are under way.
        """
        waiting: deque[tuple[Chunk, list[Ints], list[Future[Ranking]]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool, closing(prefetch(self.chunks(entries, skip))) as chunks:
            try:
                for chunk in chain(chunks, [None]):
                    if chunk is not None:
                        parts = self._parts(chunk)
                        waiting.append((chunk, parts, [pool.submit(self._rank, chunk, part) for part in parts]))
                    while len(waiting) > (chunk is not None):
                        first, parts, ranking = waiting.popleft()
                        yield first, self._in_order(first, parts, [part.result() for part in ranking])
            finally:
                pool.shutdown(cancel_futures=True)

    def _parts(self, chunk: Chunk) -> list[Ints]:
        return list(batches(np.clip(chunk.rows.lengths, 1, self.recommender.max_history), self.limit.positions))

    def _prepare(self, entries: list[Entry]) -> Chunk:
        positions = self.recommender.catalog.positions([item for entry in entries for item in entry.items])
        starts = np.concatenate([[0], np.cumsum([len(entry.items) for entry in entries])]).astype(np.int64)
        reasons: dict[int, str] = {}
        popular: dict[int, str] = {}
        read: list[int] = []
        known_items, known_times, unknown = [], [], []
        for number, entry in enumerate(entries):
            own = positions[starts[number] : starts[number + 1]].tolist()
            known = [place for place, position in enumerate(own) if position != PAD]
            if len(known) < len(own):
                unknown += [item for item, position in zip(entry.items, own, strict=True) if position == PAD]
            reason = entry.problem or self._no_use(entry, len(known))
            if reason:
                (popular if self._gets_popular(entry, len(known)) else reasons)[number] = reason
                continue
            read.append(number)
            known_items.append([own[place] for place in known])
            known_times.append([entry.times[place] for place in known])
        users = [entries[number].user for number in read]
        rows = HistoryRows.from_lists(known_items, user_id=users, times=known_times)
        candidates = Candidates(self.config.allow_seen, self._allowed(users), self.offered, self.boost)
        return Chunk(entries, rows, read, candidates, reasons, unknown, popular)

    def _allowed(self, users: list[str]) -> list[Ints] | None:
        return None if self.candidates is None else [self.candidates[user] for user in users]

    def _no_use(self, entry: Entry, n_known: int) -> str:
        if not n_known:
            return f"none of its {len(entry.items)} items is known, for instance {', '.join(entry.items[:3])}"
        if self.candidates is not None and entry.user not in self.candidates:
            return "no candidates are given for it"
        return ""

    def _gets_popular(self, entry: Entry, n_known: int) -> bool:
        """Say whether an entry is a user of whom nothing is known, and for whom there are popular items."""
        nothing = entry.is_blank or not (entry.problem or n_known)
        return nothing and self.popular is not None and (self.candidates is None or entry.user in self.candidates)

    def _rank(self, chunk: Chunk, part: Ints) -> Ranking:
        """Rank some rows of a chunk; in halves where memory is short."""
        rows = chunk.rows.select(part)
        positions = len(part) * int(np.clip(rows.lengths.max(initial=1), 1, self.recommender.max_history))
        began = time.perf_counter()
        try:
            candidates, top_k = chunk.candidates.select(part), self.config.top_k
            if self.limit_per is None:
                ranking = self.recommender.recommend(rows, top_k, candidates)
            else:
                ranking = self.limit_per.recommend(self.recommender, rows, top_k, candidates)
        except MemoryError:
            if len(part) == 1:
                raise
            self.limit.shrink(positions)
            logger.warning("out of memory with %d users at once; going on with halves", len(part))
            return _together([self._rank(chunk, half) for half in np.array_split(part, 2)])
        self.limit.record(positions, time.perf_counter() - began)
        return ranking

    def _in_order(self, chunk: Chunk, parts: list[Ints], rankings: list[Ranking]) -> Ranking | None:
        """Put the lists of a chunk's members in order; None if there are no members."""
        numbers = [np.asarray(chunk.read, np.int64)[part] for part in parts]
        if chunk.popular and self.popular is not None:
            allowed = self._allowed([chunk.entries[number].user for number in chunk.popular])
            rankings = [*rankings, self.popular.rank(len(chunk.popular), allowed)]
            numbers.append(np.asarray(list(chunk.popular), np.int64))
        return _together(rankings, np.argsort(np.concatenate(numbers))) if numbers else None


def why_rejected(chunk: Chunk, ranking: Ranking | None) -> dict[int, str]:
    """Return the reason of every entry without a recommendation, by its number in the chunk."""
    reasons = dict(chunk.reasons)
    if ranking is not None:
        members = chunk.members
        for row in np.flatnonzero(ranking.items[:, 0] == PAD).tolist():
            reasons[members[row]] = "no candidate is left to recommend"
    return reasons


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _together(parts: list[Ranking], order: Ints | slice = slice(None)) -> Ranking:
    return Ranking(*(np.concatenate([getattr(part, f.name) for part in parts])[order] for f in fields(Ranking)))
