"""Users of two tastes: in music they move on, so the next title is like their newest; in the kitchen they return to
their first love, so the next is like their oldest. Every history mixes both, and the next item is of either taste.

One factor has one attention, and sees the newest and the oldest of both tastes alike. Two can divide the work: one
looks at the newest and speaks of music, the other at the oldest and speaks of the kitchen. All users and pairs of items
are equally likely and the evidence is given nothing to count, so only the factors can solve it.
"""

import numpy as np
import pytest

from flr_model.data.histories import HistoryRows
from flr_model.nn.run import load_recommender
from flr_model.ranking.pair_events import PairEvents
from flr_model.training.sft import train
from tests.builders import catalog_of, tiny_model, tiny_train, write_dataset

MUSIC = ("red", "blue", "green", "white", "black", "gold", "silver", "amber")
KITCHEN = ("violet", "grey", "cyan", "pink", "brown", "olive", "teal", "coral")
TITLES = [
    f"{taste} {kind} {edition}"
    for taste, kinds in (("music", MUSIC), ("kitchen", KITCHEN))
    for kind in kinds
    for edition in ("one", "two")
]
N_MUSIC = 2 * len(MUSIC)
PER_TASTE = 4


def planted_rows(n, seed):
    """Histories of four kinds of each taste in random order; the target is the other edition of one item of them."""
    rng = np.random.default_rng(seed)
    histories, targets = [], []
    for _ in range(n):
        music = 2 * rng.permutation(len(MUSIC))[:PER_TASTE] + rng.integers(2, size=PER_TASTE)
        kitchen = N_MUSIC + 2 * rng.permutation(len(KITCHEN))[:PER_TASTE] + rng.integers(2, size=PER_TASTE)
        history = np.empty(2 * PER_TASTE, np.int64)
        is_music = rng.permutation(np.repeat([True, False], PER_TASTE))
        history[is_music], history[~is_music] = music, kitchen
        histories.append(history.tolist())
        targets.append(int(rng.choice([music[-1], kitchen[0]])) ^ 1)
    return HistoryRows.from_lists(histories, target=targets, user_id=[f"{seed}-{row}" for row in range(n)])


VALID = planted_rows(400, seed=2)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_backbone):
    """Validation NDCG@10 and recommender by number of factors."""
    place = tmp_path_factory.mktemp("planted")
    data = write_dataset(place / "data", catalog_of(TITLES), {"train": planted_rows(1500, seed=1), "valid": VALID})
    count = PairEvents.count
    nothing = HistoryRows.from_lists([])
    # With the default weight of the diversity the gates settle on one factor for some seeds; apart early, both live.
    settings = tiny_train(epochs=8, patience=8, diversity=2.0)
    results = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            PairEvents, "count", classmethod(lambda cls, rows, n_items, **how: count(nothing, n_items, **how))
        )
        for n_factors in (1, 2):
            shape = {
                "n_factors": n_factors,
                "embedding_size": 24,
                "refine_steps": 1,
                "latent_tokens": 0,
                "dropout": 0.0,
            }
            out = place / f"{n_factors}-factors"
            report = train(data, out, model=tiny_model(tiny_backbone, **shape), train=settings)
            results[n_factors] = report.valid["NDCG@10"], load_recommender(out)
    return results


def preference(recommender):
    """(2, K) how much each factor prefers the titles of the kind in question to others: of music, of the kitchen."""
    queries, vectors = recommender.states(VALID).queries, recommender.vectors
    histories = VALID.padded(2 * PER_TASTE)
    music = np.asarray([history[history < N_MUSIC][-1] for history in histories])
    kitchen = np.asarray([history[history >= N_MUSIC][0] for history in histories])
    out = []
    for relevant, taste in ((music, vectors[:N_MUSIC]), (kitchen, vectors[N_MUSIC:])):
        likes = (vectors[relevant] + vectors[relevant ^ 1]) / 2 - taste.mean(axis=0)
        out.append(np.einsum("bkd,bd->bk", queries, likes).mean(axis=0))
    return np.asarray(out)


def test_two_factors_beat_one(fitted):
    # Measured over four seeds: 0.57 to 0.58 with one factor, 0.72 to 0.74 with two; knowing both kinds gives 0.815.
    one, two = fitted[1][0], fitted[2][0]
    assert two > one + 0.08


def test_factors_separate_the_tastes(fitted):
    of_music, of_kitchen = preference(fitted[2][1])
    musical = int(of_music.argmax())
    assert of_kitchen.argmax() == 1 - musical
    assert of_music[musical] > 4 * abs(of_music[1 - musical])
    assert of_kitchen[1 - musical] > 4 * abs(of_kitchen[musical])


def test_the_musical_factor_looks_at_newer_items(fitted):
    recommender = fitted[2][1]
    of_music, _ = preference(recommender)
    attention = recommender.states(VALID).attention.mean(axis=0)[:, -2 * PER_TASTE :]  # (K, L)
    newest, oldest = attention[:, -1], attention[:, 0]
    musical = int(of_music.argmax())
    assert newest[musical] > oldest[musical]
    assert newest[1 - musical] < oldest[1 - musical]


def test_no_factor_dies(fitted):
    assert fitted[2][1].states(VALID).gates.mean(axis=0).min() > 0.2
