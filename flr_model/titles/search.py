"""Beam search over a catalogue's titles, in numpy, with torch or ONNX Runtime behind one small protocol.

A title's likelihood is the product over its tokens of softmax over the tree's continuations, so a token without an
alternative is certain and needs no network: forced stretches are read in one step when a choice follows, and
the rest of a title that nothing else shares is never read. All beams of a user lie in one sequence behind the user's
prompt, each token seeing the prompt and its own beam's tokens; so keys and values of the prompt exist once.

Shapes: B users, P places of the prompt, S new places, C cached places, n beams, d width of the states, D width of item
vectors, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from flr_model.arrays import Bools, Floats, Ints
from flr_model.ranking.lags import PaddedHistories
from flr_model.titles.beams import Beams, Doubles, Found, by_user, count_up
from flr_model.titles.tree import TitleTree


class Prompted(NamedTuple):
    """B users' prompts, read.

    mask: (B, P) 1 where a place is real. cache: keys and values of the P places, in the reader's own form.
    """

    mask: Ints
    cache: Any


class TitleReader(Protocol):
    """The network behind the search: torch (`flr_model.nn.title_reader`) or ONNX Runtime (`flr_export.runtime`)."""

    @property
    def head(self) -> Floats:
        """(V, d) output embeddings: a token's logit is its dot product with a state."""

    def prompt(self, histories: PaddedHistories, vectors: Floats, titles: Any) -> Prompted:
        """Read B histories in the prompt; the arguments are those of `flr_model.ranking.recommender.Reader.read`."""

    def extend(self, cache: Any, tokens: Ints, positions: Ints, mask: Bools, latent: Floats) -> tuple[Floats, Any]:
        """Read new places behind cached ones: N latent tokens, and after them T of the vocabulary.

        Args:
            cache: of B users and C places.
            tokens: (B, T).
            positions: (B, S) for the position embedding, S = N + T.
            mask: (B, S, C + S) which places a new one sees; at least itself.
            latent: (B, N, D) vectors of item space, each of which a latent token spells.

        Returns:
            (B, S, d) states and the cache of C + S places.
        """

    def keep(self, cache: Any, users: Ints) -> Any:
        """Return the cache of some of the users."""


def end_prompt(reader: TitleReader, prompted: Prompted, latent: Floats) -> tuple[Floats, Ints, Any]:
    """Read latent tokens that spell (B, D) vectors, behind the prompts.

    Returns:
        (B, d) states from which the first tokens are predicted, the (B, P + 1) mask and the cache.
    """
    mask = np.pad(prompted.mask, ((0, 0), (0, 1)), constant_values=1)
    nothing, place = np.zeros((len(mask), 0), np.int64), prompted.mask.sum(axis=1, keepdims=True)
    states, cache = reader.extend(prompted.cache, nothing, place, mask[:, None] > 0, latent[:, None])
    return states[:, 0], mask, cache


class Guide(Protocol):
    """What steers the search besides the language model."""

    def log_mass(self, user: Ints, node: Ints) -> Doubles:
        """Return (n,) the logarithm of the probability of all titles under a node, for a user each."""


class Filter(Protocol):
    """Which titles a user can be given."""

    def any_left(self, user: Ints, node: Ints) -> Bools:
        """Return (n,) whether a title under the node is eligible for the user."""


class Titles(Protocol):
    """Titles of each user."""

    def below(self, user: Ints, node: Ints) -> Ints:
        """Return (n,) how many of the user's titles are under the node."""


class TitleSearch:
    """Beam search for B users (docs/method.md, "Title decoder").

    The rules are those of transformers' ``generate``: a step adds one token to every beam; of the 2 W best
    continuations of a user, the W best unfinished go on, and finished ones count if they are among the W best. Titles
    that are wanted are scored whatever their beginnings are worth.

    Args:
        tree: of the titles.
        reader: the network.
        prompted: the users.
        latent: (B, D) vectors of item space; each title is written after the latent token that spells its user's.
        width: W, beams per user; at least W titles are found where there are as many.
        guide: of the search; None without.
        guidance: its weight w: the score is (1 - w) language + w guided.
        eligible: titles that may be found; None for all.
        bonus: at most 0, added to the score of complete titles, given their users and numbers; None for none.
        wanted: eligible titles that no beam may be too narrow for; None for none.
    """

    def __init__(
        self,
        tree: TitleTree,
        reader: TitleReader,
        prompted: Prompted,
        latent: Floats,
        *,
        width: int,
        guide: Guide | None = None,
        guidance: float = 0.0,
        eligible: Filter | None = None,
        bonus: Callable[[Ints, Ints], Doubles] | None = None,
        wanted: Titles | None = None,
    ) -> None:
        self.tree = tree
        self.reader = reader
        self.width = width
        self.guide = guide
        self.guidance = guidance if guide is not None else 0.0
        self.eligible = eligible
        self.bonus = bonus
        self.wanted = wanted
        n_users = len(latent)
        self._rows = np.arange(n_users)  # the users whose keys and values are still kept
        self._no_latent = latent[:, None][:, :0]
        self._first, self._mask, self._cache = end_prompt(reader, prompted, latent)

    def run(self) -> Found:
        """Search until no better title can come."""
        n_users = len(self._first)
        beams = Beams.start(n_users, self.tree.longest)
        found = Found.empty()
        while len(beams.user):
            # Users are independent: those who need no network go on alone, so that a reading serves as many as can be.
            waits = np.isin(beams.user, beams.user[self.tree.n_children(beams.node) > 1])
            now = waits if waits.all() else ~waits
            grown, finished = self._step(beams.take(now))
            found = self._best(Found.joined([found, finished]))
            beams = Beams.joined(grown, beams.take(~now))
            beams = beams.take(self._promising(beams, found, n_users))
        return found

    def _step(self, beams: Beams) -> tuple[Beams, Found]:
        """Add a token to every beam; return those that go on and those that are complete."""
        beams, states = self._read(beams)
        owner, child = self.tree.children(beams.node)
        language = beams.language[owner] + self._log_softmax(beams, states, owner, child)
        user = beams.user[owner]
        if self.eligible is not None:
            left = self.eligible.any_left(user, child)
            owner, child, language, user = owner[left], child[left], language[left], user[left]
        guided = np.zeros(len(owner)) if self.guide is None else self.guide.log_mass(user, child)
        total = self._total(language, guided)
        wanted = np.zeros(len(owner), bool) if self.wanted is None else self.wanted.below(user, child) > 0
        order, rank = by_user(user, total, 2 * self.width, wanted)
        owner, child, wanted = owner[order], child[order], wanted[order]
        parts = {"node": child, "language": language[order], "guided": guided[order]}
        grown = beams.take(owner).grown(self.tree.token[child], **parts)
        complete = self.tree.n_children(child) == 0
        onward = np.flatnonzero(~complete)
        onward = onward[by_user(grown.user[onward], total[order][onward], self.width, wanted[onward])[0]]
        return grown.take(onward), self._finish(grown.take(complete & ((rank < self.width) | wanted)))

    def _total(self, language: Doubles, guided: Doubles) -> Doubles:
        """(n,) what beams are worth."""
        return (1 - self.guidance) * language + self.guidance * guided

    def _read(self, beams: Beams) -> tuple[Beams, Floats]:
        """Read the unread tokens of beams that have a choice; return (n, d) states, of no meaning for the others."""
        states = self._first[beams.user]
        chosen = np.flatnonzero((self.tree.n_children(beams.node) > 1) & (beams.depth > 0))
        if not len(chosen):
            return beams, states
        self._drop_users(np.unique(beams.user))
        row = np.searchsorted(self._rows, beams.user[chosen])
        written = np.arange(beams.tokens.shape[1]) < beams.depth[chosen, None]
        beam, depth = np.nonzero((beams.column[chosen] < 0) & written)
        place = count_up(row[beam])  # rows are in order: beams are ordered by user
        n_cached = self._mask.shape[1]
        n_new = int(place.max()) + 1
        column = beams.column.copy()
        column[chosen[beam], depth] = n_cached + place
        tokens, positions = np.zeros((2, len(self._rows), n_new), np.int64)
        tokens[row[beam], place] = beams.tokens[chosen[beam], depth]
        positions[row[beam], place] = self._n_prompt()[row[beam]] + depth
        mask = np.concatenate(
            [
                np.repeat((self._mask > 0)[:, None], n_new, axis=1),
                np.repeat(np.eye(n_new, dtype=bool)[None], len(self._rows), axis=0),
            ],
            axis=2,
        )
        token, before = np.nonzero(np.arange(column.shape[1]) <= depth[:, None])
        mask[row[beam][token], place[token], column[chosen[beam[token]], before]] = True
        read, self._cache = self.reader.extend(self._cache, tokens, positions, mask, self._no_latent[: len(tokens)])
        # What was read for one beam is no other beam's business: only the prompt is seen by all.
        self._mask = np.concatenate([self._mask, np.zeros((len(self._rows), n_new), np.int64)], axis=1)
        last = np.r_[np.flatnonzero(np.diff(beam)), len(beam) - 1]
        states[chosen] = read[row, place[last]]
        return replace(beams, column=column), states

    def _n_prompt(self) -> Ints:
        """(B,) real places of each prompt."""
        n_prompt: Ints = self._mask.sum(axis=1)
        return n_prompt

    def _drop_users(self, users: Ints) -> None:
        """Forget the keys and values of users who are done, once that saves a quarter."""
        if len(users) > 0.75 * len(self._rows):
            return
        kept = np.searchsorted(self._rows, users)
        self._rows, self._mask, self._cache = users, self._mask[kept], self.reader.keep(self._cache, kept)

    def _log_softmax(self, beams: Beams, states: Floats, owner: Ints, child: Ints) -> Doubles:
        """(P,) log-probabilities of children among those of the same node; 0 for an only child."""
        count = np.bincount(owner, minlength=len(beams.node))
        out = np.zeros(len(owner))
        pairs = np.flatnonzero(count[owner] > 1)
        if not len(pairs):
            return out
        beam, of_pair = np.unique(owner[pairs], return_inverse=True)
        options, of_option = np.unique(self.tree.token[child[pairs]], return_inverse=True)
        logits = (states[beam] @ self.reader.head[options].T)[of_pair, of_option].astype(np.float64)
        start = np.flatnonzero(np.diff(of_pair, prepend=-1))
        logits -= np.maximum.reduceat(logits, start)[of_pair]
        out[pairs] = logits - np.log(np.add.reduceat(np.exp(logits), start))[of_pair]
        return out

    def _finish(self, beams: Beams) -> Found:
        """Score complete titles."""
        language = (1 - self.guidance) * beams.language
        guided = self.guidance * beams.guided
        title = self.tree.first_title[beams.node].astype(np.int64)
        bonus = 0.0 if self.bonus is None else self.bonus(beams.user, title)
        return Found(beams.user, title, language + guided + bonus, language, guided)

    def _best(self, found: Found) -> Found:
        """Keep the W best titles of every user."""
        return found.take(by_user(found.user, found.score, self.width)[0])

    def _promising(self, beams: Beams, found: Found, n_users: int) -> Bools:
        """(n,) whether a beam can still get into its user's W best: scores only fall."""
        full = np.bincount(found.user, minlength=n_users) >= self.width
        worst = np.full(n_users, np.inf)
        np.minimum.at(worst, found.user, found.score)
        promising: Bools = ~full[beams.user] | (self._total(beams.language, beams.guided) > worst[beams.user])
        return promising
