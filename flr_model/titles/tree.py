"""The catalogue's titles as a prefix tree of tokens, in flat arrays: what the `title` decoder may write.

Every title ends with the end token, so a title that begins another one is a leaf of its own. Nodes lie in order of
depth, then of title: the children of a node are neighbours, and so are the titles under it.

Shapes: N nodes, T distinct titles, M items, n chosen nodes or titles, P pairs of a node and a child.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Compact = npt.NDArray[np.int32]

ROOT = 0


class Choices(NamedTuple):
    """Where the writing of n titles has a choice, and what it can choose.

    tokens: (n, S) the titles' tokens up to the last choice of any, the end token is one; 0 behind it. row, place: (C,)
    title and position of a choice, the token ``tokens[row, place]`` was taken. owner: (P,) choice, and option: (P,)
    token that it offers.
    """

    tokens: Ints
    row: Ints
    place: Ints
    owner: Ints
    option: Ints


@dataclass(frozen=True)
class TitleTree:
    """A prefix tree.

    Args:
        token: (N,) what leads to a node; -1 at the root, node 0.
        first_child: (N + 1,) the children of node n are ``first_child[n] : first_child[n + 1]``; a leaf has none.
        first_title: (N,) the titles under node n are ``first_title[n] : last_title[n]``.
        last_title: (N,) see above.
        first_item: (T + 1,) the items of title t are ``items[first_item[t] : first_item[t + 1]]``.
        items: (M,) positions in the catalogue; items of one title are in order of popularity.
        popularity: (M,) interactions of each item, by position.
    """

    token: Compact
    first_child: Compact
    first_title: Compact
    last_title: Compact
    first_item: Compact
    items: Compact
    popularity: Compact

    @classmethod
    def build(cls, titles: Sequence[Ints], popularity: npt.NDArray[Any], end: int) -> TitleTree:
        """Build the tree of a catalogue.

        Args:
            titles: tokens of each item's title, M of them, without the end token.
            popularity: (M,) orders items of the same title, highest first; equal ones stay in order of position.
            end: the end token; no title contains it.
        """
        table = _table(titles, end)
        order = np.lexsort((-np.asarray(popularity), *table.T[::-1]))
        table = table[order]
        # Where a row begins a title of its own; then, column by column, a node of its own.
        new = np.r_[True, (table[1:] != table[:-1]).any(axis=1)]
        first_item = np.flatnonzero(new)
        table = table[first_item]
        levels = [(np.zeros(1, np.int64), np.full(1, len(table)), np.full(1, -1))]
        parents, offset = [], 0
        differs = np.r_[True, np.zeros(len(table) - 1, bool)]
        for column in table.T:
            differs = differs | np.r_[True, column[1:] != column[:-1]]
            borders = np.r_[np.flatnonzero(differs), len(table)]
            inner = column[borders[:-1]] >= 0
            start, stop = borders[:-1][inner], borders[1:][inner]
            above = levels[-1][0]
            parents.append(offset + np.searchsorted(above, start, side="right") - 1)
            offset += len(above)
            levels.append((start, stop, column[start]))
        first, last, token = (np.concatenate(part) for part in zip(*levels, strict=True))
        n_children = np.bincount(np.concatenate(parents), minlength=len(token))
        of_items = (np.r_[first_item, len(order)], order, np.asarray(popularity))
        arrays = (token, np.r_[1, 1 + np.cumsum(n_children)], first, last, *of_items)
        return cls(*(array.astype(np.int32) for array in arrays))

    @property
    def n_titles(self) -> int:
        """The number T of distinct titles."""
        return len(self.first_item) - 1

    @property
    def end(self) -> int:
        """The end token."""
        return int(self.token[self.leaf[0]])

    @cached_property
    def title_of(self) -> Compact:
        """(M,) the title of each item."""
        out = np.empty_like(self.items)
        out[self.items] = np.repeat(np.arange(self.n_titles, dtype=np.int32), np.diff(self.first_item))
        return out

    @cached_property
    def log_share(self) -> npt.NDArray[np.float64]:
        """(M,) the logarithm of each item's share of its title: by popularity, plus one."""
        count = self.popularity + 1.0
        of_title = np.bincount(self.title_of, count, minlength=self.n_titles)
        shares: npt.NDArray[np.float64] = np.log(count / of_title[self.title_of])
        return shares

    def items_of(self, titles: npt.NDArray[Any]) -> tuple[Ints, Ints]:
        """Return (P,) the place in ``titles`` and (P,) the item of every pair of a title (n,) and its item."""
        return _pairs(self.first_item, titles, self.items)

    @cached_property
    def leaf(self) -> Compact:
        """(T,) the last node of each title."""
        leaves = np.flatnonzero(np.diff(self.first_child) == 0)
        out: Compact = np.empty(self.n_titles, np.int32)
        out[self.first_title[leaves]] = leaves
        return out

    @cached_property
    def parent(self) -> Compact:
        """(N,) the node above each; -1 for the root."""
        above = np.repeat(np.arange(len(self.token)), np.diff(self.first_child))
        out: Compact = np.concatenate([[-1], above]).astype(np.int32)
        return out

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest title, the end token among them."""
        node, length = self.leaf, 0
        while len(node := node[node > ROOT]):
            node, length = self.parent[node], length + 1
        return length

    def n_children(self, nodes: npt.NDArray[Any]) -> Compact:
        """Return (n,) how many children each node has; a leaf has none."""
        counts: Compact = self.first_child[np.asarray(nodes) + 1] - self.first_child[nodes]
        return counts

    def children(self, nodes: npt.NDArray[Any]) -> tuple[Ints, Ints]:
        """Return (P,) the place in ``nodes`` and (P,) the child of every pair of a node (n,) and its child."""
        return _pairs(self.first_child, nodes)

    def paths(self, titles: npt.NDArray[Any]) -> Ints:
        """Return (n, S) the nodes from below the root to the leaf of each title (n,), filled up with -1."""
        node = self.leaf[titles].astype(np.int64)
        upwards = []
        while (node > ROOT).any():
            upwards.append(node)
            node = np.where(node > ROOT, self.parent[node], -1)
        path = np.stack([*upwards[::-1]], axis=1)
        path[path <= ROOT] = -1
        length = (path >= 0).sum(axis=1)
        column = np.arange(path.shape[1]) + (path.shape[1] - length)[:, None]  # to the left
        moved = np.take_along_axis(path, np.minimum(column, path.shape[1] - 1), axis=1)
        moved[np.arange(path.shape[1]) >= length[:, None]] = -1
        return moved

    def choices(self, titles: npt.NDArray[Any], *, forced: bool = False) -> Choices:
        """Return where writing titles (n,) has a choice; ``forced`` counts places with one continuation too."""
        path = self.paths(titles)
        real = path >= 0
        above = np.where(real, np.concatenate([np.full((len(path), 1), ROOT), path[:, :-1]], axis=1), ROOT)
        n_options = self.first_child[above + 1] - self.first_child[above]
        row, place = np.nonzero(real & ((n_options > 1) | forced))
        owner, child = self.children(above[row, place])
        needed = path[:, : int(place.max(initial=0)) + 1]
        tokens = np.where(needed >= 0, self.token[np.maximum(needed, 0)], 0).astype(np.int64)
        return Choices(tokens, row, place, owner, self.token[child].astype(np.int64))

    def with_items(self, titles: Sequence[Ints]) -> TitleTree:
        """Return the tree with more items, whose positions follow the present ones; nobody knows them yet."""
        path = self.paths(np.arange(self.n_titles))
        lengths = (path >= 0).sum(axis=1) - 1
        known = [self.token[row[:length]].astype(np.int64) for row, length in zip(path, lengths, strict=True)]
        popularity = np.concatenate([self.popularity, np.zeros(len(titles), np.int32)])
        return self.build([*(known[title] for title in self.title_of), *titles], popularity, self.end)

    def write(self, path: Path) -> None:
        """Write the arrays as one uncompressed npz without pickled objects."""
        with path.open("wb") as file:
            np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def read(cls, path: Path) -> TitleTree:
        """Read what `write` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def _pairs(first: Compact, chosen: npt.NDArray[Any], values: Compact | None = None) -> tuple[Ints, Ints]:
    """Return the place in ``chosen`` (n,) and the member of every pair; group g has ``first[g] : first[g + 1]``."""
    start = first[chosen].astype(np.int64)
    count = first[np.asarray(chosen) + 1] - start
    ends = np.cumsum(count)
    member = np.repeat(start - (ends - count), count) + np.arange(int(count.sum()))
    return np.repeat(np.arange(len(start)), count), member if values is None else values[member].astype(np.int64)


def _table(titles: Sequence[Ints], end: int) -> Ints:
    """(M, longest + 1) the tokens of each title with the end token, filled up with -1."""
    lengths = np.asarray([len(title) for title in titles], np.int64)
    table = np.full((len(titles), int(lengths.max(initial=0)) + 1), -1, np.int64)
    table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate([*titles, np.zeros(0, np.int64)])
    table[np.arange(len(titles)), lengths] = end
    return table
