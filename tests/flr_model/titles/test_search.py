"""The search over a made-up language model whose next token depends on the whole beginning."""

import numpy as np
import pytest

from flr_model.data.histories import HistoryRows
from flr_model.ranking.candidates import UNSEEN, Candidates
from flr_model.titles.eligible import Eligible, OwnTitles
from flr_model.titles.recommender import Guidance
from flr_model.titles.search import Prompted, TitleSearch
from flr_model.titles.tree import TitleTree

END, VOCABULARY, WIDTH = 0, 7, 5
RNG = np.random.default_rng(3)
HEAD = RNG.normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
TITLES = [RNG.integers(1, VOCABULARY, RNG.integers(1, 6)) for _ in range(80)]
TREE = TitleTree.build(TITLES, np.zeros(80), END)
N_USERS = 3
USERS = RNG.normal(size=(N_USERS, WIDTH)).astype(np.float32)


def state_of(user_state, tokens):
    """The state after some tokens: each turns what was before."""
    state = user_state
    for token in tokens:
        state = np.tanh(np.roll(state, 1) * 1.7 + HEAD[token][::-1])
    return state


class ToyWriter:
    """Recomputes a state from the tokens it is allowed to see; the cache is the tokens themselves."""

    head = HEAD

    def __init__(self):
        self.read_tokens = 0

    def prompted(self):
        mask = np.asarray([[0, 1], [1, 1], [1, 1]])
        return Prompted(mask, (np.zeros_like(USERS), np.full((N_USERS, 2), -1), np.full((N_USERS, 2), -1)))

    def extend(self, cache, tokens, positions, mask, latent):
        users, known, places = cache
        if latent.shape[1]:  # what is written starts from it
            users, tokens = latent[:, 0], np.full((len(users), 1), -1)
        known, places = np.concatenate([known, tokens], axis=1), np.concatenate([places, positions], axis=1)
        states = np.zeros((*tokens.shape, WIDTH), np.float32)
        for user, new in np.ndindex(tokens.shape):
            seen = np.flatnonzero(mask[user, new])
            seen = seen[known[user, seen] >= 0]
            in_order = seen[np.argsort(places[user, seen], kind="stable")]
            states[user, new] = state_of(users[user], known[user, in_order])
            self.read_tokens += tokens[user, new] > END  # which fills up
        return states, (users, known, places)

    def keep(self, cache, users):
        return tuple(part[users] for part in cache)


def likelihood(user, title):
    """Log-likelihood of a title under the tree, one token after the other."""
    tokens, total, node = [], 0.0, 0
    for token in [*title, END]:
        _, children = TREE.children(np.asarray([node]))
        options = TREE.token[children]
        logits = state_of(USERS[user], tokens) @ HEAD[options].T
        total += logits[options == token][0] - np.log(np.exp(logits).sum())
        node = int(children[options == token][0])
        tokens.append(token)
    return total


EXHAUSTIVE = np.asarray(
    [
        [likelihood(user, TITLES[TREE.items[TREE.first_item[t]]]) for t in range(TREE.n_titles)]
        for user in range(N_USERS)
    ]
)


def search(width, **changes):
    writer = ToyWriter()
    return TitleSearch(TREE, writer, writer.prompted(), USERS, width=width, **changes).run(), writer


def rows(histories):
    return HistoryRows.from_lists(histories)


def test_likelihoods_of_the_catalogue_sum_to_one():
    np.testing.assert_allclose(np.exp(EXHAUSTIVE).sum(axis=1), 1, rtol=1e-5)


def test_a_wide_beam_ranks_the_catalogue_by_likelihood():
    found, _ = search(TREE.n_titles)
    for user in range(N_USERS):
        own = found.take(found.user == user)
        np.testing.assert_array_equal(own.title, np.argsort(-EXHAUSTIVE[user], kind="stable"))
        np.testing.assert_allclose(own.score, np.sort(EXHAUSTIVE[user])[::-1], atol=1e-5)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_narrow_beam_finds_as_many_titles_with_their_own_likelihoods(width):
    found, _ = search(width)
    assert np.bincount(found.user).tolist() == [width] * N_USERS
    np.testing.assert_allclose(found.score, EXHAUSTIVE[found.user, found.title], atol=1e-5)


def test_tokens_without_an_alternative_are_read_only_where_a_choice_follows():
    _, writer = search(TREE.n_titles)
    needed = set()
    for title, path in enumerate(TREE.paths(np.arange(TREE.n_titles))):
        needed |= set(path[: TREE.choices(np.asarray([title])).place.max()].tolist())
    assert writer.read_tokens == N_USERS * len(needed)


def test_hidden_items_are_never_found_and_others_take_their_places():
    history = [TREE.items[:3].tolist(), TREE.items[40:60].tolist(), []]
    eligible = Eligible.of(TREE, rows(history), UNSEEN)
    found, _ = search(10, eligible=eligible)
    assert np.bincount(found.user).tolist() == [10] * N_USERS
    left = eligible.items(found.user, TREE.items[TREE.first_item[found.title]].astype(np.int64))
    several = np.diff(TREE.first_item)[found.title] > 1
    assert (left | several).all()
    wide, _ = search(TREE.n_titles, eligible=eligible)
    hidden = np.setdiff1d(np.arange(TREE.n_titles), wide.title[wide.user == 0])
    assert set(hidden) <= set(TREE.title_of[history[0]].tolist())


def test_only_candidates_are_found():
    own = [np.asarray([3, 8]), None, np.asarray([], np.int64)]
    found, _ = search(TREE.n_titles, eligible=Eligible.of(TREE, rows([[], [], []]), Candidates(allowed=own)))
    assert set(found.title[found.user == 0]) == set(TREE.title_of[[3, 8]])
    assert np.bincount(found.user, minlength=3).tolist() == [len(set(TREE.title_of[[3, 8]])), TREE.n_titles, 0]


def test_only_titles_with_an_item_that_is_offered_and_left_are_found():
    offered = RNG.random(len(TREE.items)) < 0.3
    history, own = [np.flatnonzero(offered)[::2].tolist(), [], []], [None, None, np.arange(0, len(TREE.items), 2)]
    eligible = Eligible.of(TREE, rows(history), Candidates(allowed=own, offered=offered))
    found, _ = search(TREE.n_titles, eligible=eligible)
    left = np.tile(offered, (N_USERS, 1))
    left[0, history[0]] = False
    left[2, 1::2] = False
    for user, items in enumerate(left):
        assert sorted(found.title[found.user == user]) == np.unique(TREE.title_of[items]).tolist()
        assert eligible.items(np.full(len(items), user), np.arange(len(items))).tolist() == items.tolist()


def test_guidance_mixes_the_probabilities_of_titles():
    scores = RNG.normal(size=(N_USERS, 80)).astype(np.float32)
    by_item = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    by_title = np.stack([np.bincount(TREE.title_of, row, minlength=TREE.n_titles) for row in by_item])
    found, _ = search(TREE.n_titles, guide=Guidance.of(TREE, scores), guidance=0.3)
    expected = 0.7 * EXHAUSTIVE + 0.3 * np.log(by_title)
    np.testing.assert_allclose(found.score, expected[found.user, found.title], atol=1e-5)
    np.testing.assert_allclose(found.language + found.guided, found.score)
    assert (np.diff(found.score)[np.diff(found.user) == 0] <= 0).all()


class FixedWriter:
    """Says what the first token is with given chances; what follows is all alike."""

    def __init__(self, chances):
        self.head = np.eye(len(chances), dtype=np.float32)
        self.prompted = Prompted(np.ones((1, 1), np.int64), None)
        self.latent = np.log(chances)[None].astype(np.float32)

    def extend(self, cache, tokens, positions, mask, latent):
        return np.concatenate([latent, np.zeros((*tokens.shape, len(self.head)), np.float32)], axis=1), None


def test_wanted_titles_are_scored_whatever_their_beginnings_are_worth():
    tree = TitleTree.build([np.asarray(title) for title in ([1, 1], [1, 2], [1, 3], [2])], np.zeros(4), END)
    writer = FixedWriter([1e-9, 0.6, 0.4, 1e-9])
    likely = int(tree.title_of[3])
    for wanted, expected in ((None, 0.2), (OwnTitles(tree, np.asarray([likely])), 0.4)):
        found = TitleSearch(tree, writer, writer.prompted, writer.latent, width=1, wanted=wanted).run()
        np.testing.assert_allclose(np.exp(found.score), [expected], rtol=1e-5)
    assert found.title.tolist() == [likely]
    poor = OwnTitles(tree, np.arange(3))
    best = TitleSearch(tree, writer, writer.prompted, writer.latent, width=2, wanted=poor).run()
    np.testing.assert_allclose(np.exp(best.score), [0.4, 0.2], rtol=1e-5)


def test_a_catalogue_of_one_title_needs_no_network():
    tree, writer = TitleTree.build([np.asarray([4, 5])], np.zeros(1), END), ToyWriter()
    found = TitleSearch(tree, writer, writer.prompted(), USERS, width=4).run()
    assert (found.title.tolist(), found.score.tolist(), writer.read_tokens) == ([0] * 3, [0.0] * 3, 0)
