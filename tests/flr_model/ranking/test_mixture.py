from dataclasses import replace

import numpy as np
import pytest

from flr_model.data.histories import PAD
from flr_model.ranking import mixture
from flr_model.ranking.factor_counts import CountsEverywhere, CountsOfPlaces
from flr_model.ranking.mixture import Mixture

B, K, D, M = 7, 3, 4, 40


@pytest.fixture(params=["places", "everywhere"])
def case(request):
    """A mixture, what is hidden of it, and (B, K, M) g_k P_k(i) written out."""
    rng = np.random.default_rng(0)
    queries, vectors = rng.normal(size=(B, K, D)), rng.normal(size=(M, D))
    gates = rng.dirichlet(np.ones(K), B)
    row, item = np.nonzero(rng.random((B, M)) < 0.2)
    value = rng.random((len(row), K)) * 3
    seen = np.nonzero(rng.random((B, M)) < 0.1)
    logits = queries @ vectors.T
    logits[row, :, item] += value
    logits[seen[0], :, seen[1]] -= 4.0
    joint = np.exp(logits)
    joint *= (gates / joint.sum(2))[..., None]
    everywhere = np.zeros((B, K, M), np.float32)
    everywhere[row, :, item] = value
    places = CountsOfPlaces(row, item, value.astype(np.float32))
    counts = places if request.param == "places" else CountsEverywhere(everywhere)
    parts = (array.astype(np.float32) for array in (queries, gates, vectors))
    return Mixture(*parts, counts, seen, -4.0), seen, joint


def ranked(probability, hidden, k):
    scores = np.log(probability)
    scores[hidden] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    return np.where(best == -np.inf, PAD, order), best


@pytest.mark.parametrize("block", [1, B * K * 13, 1 << 22])
def test_probabilities_are_those_of_the_whole_catalogue_whatever_the_blocks(case, monkeypatch, block):
    found, _, joint = case
    monkeypatch.setattr(mixture, "BLOCK_LOGITS", block)
    np.testing.assert_allclose(np.exp(found.log_probabilities()), joint.sum(1), rtol=1e-4)
    np.testing.assert_allclose(np.exp(found.log_probabilities()).sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("block", [1, B * K * 13, 1 << 22])
@pytest.mark.parametrize("k", [1, 5, 60])
def test_the_catalogue_in_blocks_ranks_as_sorting_all_probabilities_does(case, monkeypatch, block, k):
    found, hidden, joint = case
    monkeypatch.setattr(mixture, "BLOCK_LOGITS", block)
    items, scores = ranked(joint.sum(1), hidden, k)
    best = found.best(hidden, k)
    assert best.items.tolist() == items.tolist()
    np.testing.assert_allclose(best.scores, scores, rtol=1e-4)


@pytest.mark.parametrize("k", [1, 5, 60])
def test_candidates_keep_their_probability_among_the_whole_catalogue(case, k):
    found, hidden, joint = case
    rng = np.random.default_rng(1)
    candidates = [np.flatnonzero(rng.random(M) < share) for share in np.linspace(0, 1, B - 1)] + [None]
    closed = np.ones((B, M), bool)
    for user, own in enumerate(candidates):
        closed[user, slice(None) if own is None else own] = False
    closed[hidden] = True
    items, scores = ranked(joint.sum(1), np.nonzero(closed), min(k, M))
    any_order = rng.permutation(len(hidden[0]))
    best = found.best_of((hidden[0][any_order], hidden[1][any_order]), k, candidates)
    assert best.items.tolist() == items.tolist()
    np.testing.assert_allclose(best.scores, scores, rtol=1e-4)


@pytest.mark.parametrize("block", [1, B * K * 13, 1 << 22])
@pytest.mark.parametrize("k", [1, 5, 60])
@pytest.mark.parametrize("share", [0, 0.05, 0.5, 1])
def test_what_is_offered_in_blocks_ranks_as_masking_all_scores_does(case, monkeypatch, block, k, share):
    found, hidden, joint = case
    monkeypatch.setattr(mixture, "BLOCK_LOGITS", block)
    offered = np.random.default_rng(2).random(M) < share
    closed = np.tile(~offered, (B, 1))
    closed[hidden] = True
    expected = ranked(joint.sum(1), np.nonzero(closed), k)
    closed[:, 1::2] = True
    even = ranked(joint.sum(1), np.nonzero(closed), k)
    for best, (items, scores) in (
        (found.best(hidden, k, offered), expected),
        (found.best_of(hidden, k, [np.arange(0, M, 2)] * B, offered), even),
    ):
        assert best.items.tolist() == items.tolist()
        np.testing.assert_allclose(best.scores, scores, rtol=1e-4)


def test_shares_add_up_to_one_and_are_the_factors_parts_of_the_probability(case):
    found, _, joint = case
    items = np.asarray([[user, 3 * user + 1, PAD] for user in range(B)])
    shares = found.shares(items)
    for user, row in enumerate(items):
        expected = joint[user][:, row[:2]] / joint[user][:, row[:2]].sum(0)
        np.testing.assert_allclose(shares[user, :2], expected.T, rtol=1e-4)
    np.testing.assert_allclose(shares[:, :2].sum(2), 1, rtol=1e-5)
    assert not shares[:, 2].any()


def test_an_item_no_factor_can_tell_apart_from_nothing_is_still_a_candidate():
    queries = np.asarray([[[200.0]]], np.float32)
    vectors = np.asarray([[1.0], [0.0]], np.float32)
    none = np.zeros(0, np.int64)
    counts = CountsOfPlaces(none, none, np.zeros((0, 1), np.float32))
    best = Mixture(queries, np.ones((1, 1), np.float32), vectors, counts, (none, none), 0.0).best((none, none), 2)
    assert best.items.tolist() == [[0, 1]]


@pytest.mark.parametrize("block", [1, B * K * 13, 1 << 22])
def test_each_factor_has_its_part_of_the_probability(case, monkeypatch, block):
    found, _, joint = case
    monkeypatch.setattr(mixture, "BLOCK_LOGITS", block)
    np.testing.assert_allclose(np.exp(found.factor_log_probabilities()), joint, rtol=1e-4)


def test_an_estimate_from_all_items_is_exact_and_from_some_is_near(case, monkeypatch):
    found, hidden, joint = case
    log_mixture = np.log(joint.sum(1))
    everything = found.best_of(hidden, 5, [np.arange(M)] * B, estimate=True)
    np.testing.assert_allclose(everything.scores, ranked(joint.sum(1), hidden, 5)[1], rtol=1e-4)
    likely = [
        np.union1d(np.argsort(-row)[:30], own) for row, own in zip(log_mixture, found.counts.items(B), strict=True)
    ]
    some = replace(found).best_of(hidden, 3, likely, estimate=True)
    assert some.items.tolist() == ranked(joint.sum(1), hidden, 3)[0].tolist()
    np.testing.assert_allclose(some.scores, ranked(joint.sum(1), hidden, 3)[1], rtol=1e-4)
