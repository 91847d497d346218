import math

import numpy as np
import pytest
import torch

from flr_model.data.histories import HistoryRows
from flr_model.nn.evidence_head import EvidenceHead
from flr_model.ranking.pair_events import PairEvents
from tests.builders import rows_of

# Ann took 0 and then 1; Bob took 0, 1 and then 2.
ROWS = rows_of({"ann": [(0, 10), (1, 20)], "bob": [(0, 30), (1, 40), (2, 50)]})
SCALE, SEEN = math.exp(2), -4.0  # what training starts from
N_ITEMS, N_USERS = 12, 25


def score(count):
    return math.log1p(SCALE * count)


@pytest.fixture(scope="module")
def many():
    """Sequences of random items with repeats, shared times and more interactions than make a pair."""
    rng = np.random.default_rng(0)
    return {
        f"u{user}": list(zip(rng.integers(N_ITEMS, size=n).tolist(), (1 + np.arange(n) // 2).tolist(), strict=True))
        for user, n in enumerate(rng.integers(2, 15, size=N_USERS))
    }


def head_of(events, *, max_history):
    head = EvidenceHead(len(events.lag_bounds) + 1, max_history=max_history)
    head.attach(events)
    return head


def random_head(rows, *, exponents=True):
    head = head_of(PairEvents.count(rows, N_ITEMS), max_history=6)
    torch.manual_seed(0)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():
        head.weight.fill_(1.3)
        if not exponents:
            head.source_exponent.zero_()
            head.neighbour_exponent.zero_()
    return head.requires_grad_(False)


def test_scores_are_those_worked_out_by_hand():
    head = head_of(PairEvents.count(ROWS, 4), max_history=3)
    new_user = HistoryRows.from_lists([[0]], user_id=["cid"], times=[[60]])
    # After 0 came 1 twice at distance 1, and 2 once at distance 2, which starts at half the weight.
    expected = torch.tensor([[SEEN, score(2), score(0.5), 0]])
    torch.testing.assert_close(head(head.encode(new_user, leave_out_own=False)), expected)


def test_while_training_the_own_pairs_contribute_nothing_and_others_do():
    head = head_of(PairEvents.count(ROWS, 4), max_history=3)
    scores = head(head.encode(ROWS, leave_out_own=True))
    ann = [SEEN, score(1), score(0.5), 0]  # Bob's pairs only
    bob = [SEEN, score(1), 0, 0]  # Ann's only
    # Bob's second row, history 0 and 1 (the newer): Ann's pairs 0-1 and 1-0, the former weighed by exp(-0.35).
    later = [SEEN + score(1), SEEN + score(math.exp(-0.35)), 0, 0]
    torch.testing.assert_close(scores, torch.tensor([ann, bob, later]), atol=1e-5, rtol=1e-5)


def test_the_targets_degree_does_not_count_the_own_interaction():
    head = head_of(PairEvents.count(ROWS, 4), max_history=3)
    with torch.no_grad():
        head.neighbour_exponent.fill_(1.0)  # counts over 1 + degree
    ann = ROWS.select(slice(0, 1))
    training = head(head.encode(ann, leave_out_own=True))[0]
    # Item 1 has a degree of 2, one of them Ann's own; item 2, not her target, keeps its degree of 1.
    assert training[1].item() == pytest.approx(score(1 / 2))
    assert training[2].item() == pytest.approx(score(0.5 / 2))
    assert head(head.encode(ann, leave_out_own=False))[0, 1].item() == pytest.approx(score(2 / 3))


@pytest.mark.parametrize("dense", [False, True])
def test_leaving_a_user_out_equals_never_having_counted_them(many, dense):
    rows = rows_of(many)
    head = random_head(rows, exponents=False)
    head.dense = dense
    scores = head(head.encode(rows, leave_out_own=True))
    for user in many:
        mine = rows.user_id == user
        without = random_head(rows_of({name: events for name, events in many.items() if name != user}), exponents=False)
        expected = without(without.encode(rows.select(mine), leave_out_own=False))
        torch.testing.assert_close(scores[torch.from_numpy(mine)], expected, atol=2e-4, rtol=1e-4)


def test_many_pairs_and_few_pairs_are_summed_alike(many):
    rows = rows_of(many)
    head = random_head(rows)
    batch = head.encode(rows, leave_out_own=True)
    scores = {}
    for head.dense in (False, True):
        scores[head.dense] = head(batch)
    torch.testing.assert_close(scores[True], scores[False], atol=1e-4, rtol=1e-4)


def test_only_many_pairs_of_few_items_are_a_dense_matrix(many, monkeypatch):
    events = PairEvents.count(rows_of(many), N_ITEMS)
    share = len(events.neighbour) / N_ITEMS**2
    below = share - 0.01
    for largest, least, dense in ((N_ITEMS, below, True), (N_ITEMS - 1, below, False), (N_ITEMS, share, False)):
        monkeypatch.setattr("flr_model.nn.evidence_head.DENSE_ITEMS", largest)
        monkeypatch.setattr("flr_model.nn.evidence_head.DENSE_SHARE", least)
        assert head_of(events, max_history=2).dense == dense


@pytest.mark.parametrize("dense", [False, True])
def test_candidates_are_scored_as_in_the_whole_catalogue(many, dense):
    rows = rows_of(many)
    head = random_head(rows)
    head.dense = dense
    batch = head.encode(rows, leave_out_own=False)
    candidates = torch.tensor([7, 2, 11])
    torch.testing.assert_close(head(batch, candidates), head(batch)[:, candidates])


def test_targets_among_the_candidates_are_scored_as_while_training_on_all(many):
    rows = rows_of(many)
    head = random_head(rows)
    batch = head.encode(rows, leave_out_own=True)
    candidates = torch.from_numpy(rows.target).unique()
    torch.testing.assert_close(head(batch, candidates), head(batch)[:, candidates])


@pytest.mark.parametrize("each", [1, 10**9])
def test_baked_it_scores_as_it_does_here(many, monkeypatch, each):
    monkeypatch.setattr("flr_model.ranking.lags.LAGS_PER_BUCKET", each)
    rows = rows_of(many)
    head = random_head(rows)
    assert (len(head.history_lag) == 1) == (each > 1)
    expected = head(head.encode(rows, leave_out_own=False)).numpy()
    np.testing.assert_allclose(head.bake().scores(rows), expected, atol=1e-4, rtol=1e-4)


def test_every_weight_learns_from_the_loss(many, monkeypatch):
    monkeypatch.setattr("flr_model.ranking.lags.LAGS_PER_BUCKET", 10)
    rows = rows_of(many)
    head = head_of(PairEvents.count(rows, N_ITEMS), max_history=6)
    scores = head(head.encode(rows, leave_out_own=True))
    torch.nn.functional.cross_entropy(scores, torch.from_numpy(rows.target)).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_a_catalogue_without_any_pair_scores_zero_but_for_what_was_seen():
    head = head_of(PairEvents.count(HistoryRows.from_lists([]), 3), max_history=2)
    rows = HistoryRows.from_lists([[0], [2]], target=[1, 0])
    for leave_out in (False, True):
        scores = head(head.encode(rows, leave_out_own=leave_out))
        assert scores.tolist() == [[SEEN, 0, 0], [0, 0, SEEN]]
