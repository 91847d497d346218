import math

import numpy as np
import pytest
import torch

from flr_model.data.histories import HistoryRows
from flr_model.nn.evidence_head import EvidenceHead
from flr_model.nn.sparse import SparseCounts
from flr_model.ranking.pair_events import PairEvents
from tests.builders import rows_of

# Ann took 0 and then 1; Bob took 0, 1 and then 2.
ROWS = rows_of({"ann": [(0, 10), (1, 20)], "bob": [(0, 30), (1, 40), (2, 50)]})
SCALE, SEEN = math.exp(2), -4.0  # what training starts from
N_ITEMS, N_USERS = 12, 25


def score(count):
    return math.log1p(SCALE * count)


@pytest.fixture(autouse=True, params=["places", "table"])
def ways(request, monkeypatch):
    """Both ways to count: the pairs that were met, and a table of all."""
    monkeypatch.setattr("flr_model.ranking.evidence.TABLE_SHARE", {"places": 0, "table": 10**9}[request.param])


@pytest.fixture(scope="module")
def many():
    """Sequences of random items with repeats, shared times and more interactions than make a pair."""
    rng = np.random.default_rng(0)
    return {
        f"u{user}": list(zip(rng.integers(N_ITEMS, size=n).tolist(), (1 + np.arange(n) // 2).tolist(), strict=True))
        for user, n in enumerate(rng.integers(2, 15, size=N_USERS))
    }


def head_of(rows, *, n_items=N_ITEMS, n_factors=1, max_history=6, unordered=False):
    events = PairEvents.count(rows, n_items, unordered=unordered)
    head = EvidenceHead(n_factors, len(events.lag_bounds) + 1, max_history=max_history)
    head.attach(events)
    return head


def random_head(rows, *, exponents=True, n_factors=2):
    head = head_of(rows, n_factors=n_factors)
    torch.manual_seed(0)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():
        head.weight.fill_(1.3)
        if not exponents:
            head.source_exponent.zero_()
            head.neighbour_exponent.zero_()
    return head.requires_grad_(False)


def decay(rows, max_history, n_factors=1):
    """Log weights of exp(-0.35) a step back."""
    age = torch.arange(max_history - 1, -1, -1).float()
    return (-0.35 * age).expand(len(rows), n_factors, -1)


def random_weights(rows, n_factors=2, max_history=6):
    return torch.randn(len(rows), n_factors, max_history, generator=torch.Generator().manual_seed(1))


def dense(head, batch, weights, n_rows):
    """(B, K, M) logits of all places, those of seen items among them."""
    logits = torch.zeros(n_rows, head.n_items, weights.shape[1])
    logits = logits.index_put(tuple(batch.place), head(batch, weights))
    logits = logits.index_put(tuple(batch.seen), head.seen, accumulate=True)
    return logits.transpose(1, 2)


def scored(head, rows, weights, *, leave_out_own):
    return dense(head, head.encode(rows, leave_out_own=leave_out_own), weights, len(rows))


def test_counts_are_those_worked_out_by_hand():
    head = head_of(ROWS, n_items=4, max_history=3)
    new_user = HistoryRows.from_lists([[0]], user_id=["cid"], times=[[60]])
    # After 0 came 1 twice at distance 1, and 2 once at distance 2, which starts at half the weight.
    expected = torch.tensor([[[SEEN, score(2), score(0.5), 0]]])
    torch.testing.assert_close(scored(head, new_user, decay(new_user, 3), leave_out_own=False), expected)


def test_unordered_interactions_of_one_moment_have_neither_direction_nor_distance():
    counted = []
    for order in ([0, 1, 2], [2, 0, 1]):
        rows = rows_of({"ann": [(item, 10) for item in order], "bob": [(3, 20), (4, 30)]})
        head = head_of(rows, n_items=5, unordered=True)
        with torch.no_grad():
            head.distance[:, 1] = -5.0  # what came before weighs little
        new_user = HistoryRows.from_lists([[0]], user_id=["cid"], times=[[60]])
        counted.append(scored(head, new_user, decay(new_user, 6), leave_out_own=False))
    torch.testing.assert_close(counted[0], torch.tensor([[[SEEN, score(1), score(1), 0, 0]]]))
    torch.testing.assert_close(counted[1], counted[0])


def test_while_training_the_own_pairs_contribute_nothing_and_others_do():
    head = head_of(ROWS, n_items=4, max_history=3)
    scores = scored(head, ROWS, decay(ROWS, 3), leave_out_own=True)[:, 0]
    ann = [SEEN, score(1), score(0.5), 0]  # Bob's pairs only
    bob = [SEEN, score(1), 0, 0]  # Ann's only
    # Bob's second row, history 0 and 1 (the newer): Ann's pairs 0-1 and 1-0, the former weighed by exp(-0.35).
    later = [SEEN + score(1), SEEN + score(math.exp(-0.35)), 0, 0]
    torch.testing.assert_close(scores, torch.tensor([ann, bob, later]), atol=1e-5, rtol=1e-5)


def test_the_targets_degree_does_not_count_the_own_interaction():
    head = head_of(ROWS, n_items=4, max_history=3)
    with torch.no_grad():
        head.neighbour_exponent.fill_(1.0)  # counts over 1 + degree
    ann = ROWS.select(slice(0, 1))
    training = scored(head, ann, decay(ann, 3), leave_out_own=True)[0, 0]
    # Item 1 has a degree of 2, one of them Ann's own; item 2, not her target, keeps its degree of 1.
    assert training[1].item() == pytest.approx(score(1 / 2))
    assert training[2].item() == pytest.approx(score(0.5 / 2))
    assert scored(head, ann, decay(ann, 3), leave_out_own=False)[0, 0, 1].item() == pytest.approx(score(2 / 3))


def test_leaving_a_user_out_equals_never_having_counted_them(many):
    rows = rows_of(many)
    head, weights = random_head(rows, exponents=False), random_weights(rows)
    scores = scored(head, rows, weights, leave_out_own=True)
    for user in many:
        mine = rows.user_id == user
        without = random_head(rows_of({name: events for name, events in many.items() if name != user}), exponents=False)
        expected = scored(without, rows.select(mine), weights[torch.from_numpy(mine)], leave_out_own=False)
        torch.testing.assert_close(scores[torch.from_numpy(mine)], expected, atol=2e-4, rtol=1e-4)


def test_each_factor_counts_with_its_own_weights(many):
    rows = rows_of(many)
    head, weights = random_head(rows), random_weights(rows)
    both = scored(head, rows, weights, leave_out_own=True)
    for k in range(2):
        alone = random_head(rows, n_factors=1)
        for name, parameter in head.named_parameters():
            if parameter.ndim:
                getattr(alone, name).data.copy_(parameter[k : k + 1])
        alone.seen.data.copy_(head.seen)
        torch.testing.assert_close(scored(alone, rows, weights[:, k : k + 1], leave_out_own=True)[:, 0], both[:, k])


@pytest.mark.parametrize("each", [1, 10**9])
def test_baked_it_counts_as_it_does_here(many, monkeypatch, each):
    monkeypatch.setattr("flr_model.ranking.lags.LAGS_PER_BUCKET", each)
    rows = rows_of(many)
    head, weights = random_head(rows), random_weights(rows)
    found = np.zeros((len(rows), 2, N_ITEMS), np.float32)
    head.bake().counts(rows, weights.exp().numpy()).add_to(found, 0)
    with torch.no_grad():
        head.seen.zero_()
    expected = scored(head, rows, weights, leave_out_own=False)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=1e-4)


def gradients(rows, weights, monkeypatch, share):
    monkeypatch.setattr("flr_model.ranking.evidence.TABLE_SHARE", share)
    head, weights = random_head(rows).requires_grad_(), weights.clone().requires_grad_()
    scores = scored(head, rows, weights, leave_out_own=True)
    torch.nn.functional.cross_entropy(scores.sum(1), torch.from_numpy(rows.target)).backward()
    return scores.detach(), weights.grad, {name: parameter.grad for name, parameter in head.named_parameters()}


def test_a_table_gives_the_scores_and_gradients_of_the_pairs_met(many, monkeypatch):
    rows = rows_of(many)
    weights = random_weights(rows)
    one, other = (gradients(rows, weights, monkeypatch, share) for share in (0, 10**9))
    torch.testing.assert_close(one, other)


def test_every_weight_learns_from_the_loss(many, monkeypatch):
    monkeypatch.setattr("flr_model.ranking.lags.LAGS_PER_BUCKET", 10)
    rows = rows_of(many)
    head, weights = head_of(rows, n_factors=2), random_weights(rows).requires_grad_()
    scores = scored(head, rows, weights, leave_out_own=True)
    torch.nn.functional.cross_entropy(scores.sum(1), torch.from_numpy(rows.target)).backward()
    for name, gradient in (*((name, p.grad) for name, p in head.named_parameters()), ("weights", weights.grad)):
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        assert gradient.abs().sum() > 0, name


def test_the_gradient_of_channel_weights_is_that_of_a_dense_product():
    rng = np.random.default_rng(0)
    row, column = rng.integers(5, size=40), rng.integers(3, size=40)
    counts = SparseCounts.of(row, column, (5, 3))
    dense_counts = torch.zeros(5, 3)
    for r, c in zip(row.tolist(), column.tolist(), strict=True):
        dense_counts[r, c] += 1
    factor = torch.randn(3, 2, requires_grad=True)
    upstream = torch.randn(5, 2)
    (gradient,) = torch.autograd.grad(counts.product(factor), factor, upstream)
    torch.testing.assert_close(counts.product(factor), dense_counts @ factor)
    torch.testing.assert_close(gradient, dense_counts.T @ upstream)


def test_it_counts_in_mixed_precision_too(many):
    rows = rows_of(many)
    head, weights = random_head(rows), random_weights(rows)
    batch = head.encode(rows, leave_out_own=True)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = head(batch, weights)
    torch.testing.assert_close(mixed.float(), head(batch, weights), atol=0.1, rtol=0.05)


def test_a_catalogue_without_any_pair_counts_nothing():
    head = head_of(HistoryRows.from_lists([]), n_items=3, max_history=2)
    rows = HistoryRows.from_lists([[0], [2]], target=[1, 0])
    for leave_out in (False, True):
        batch = head.encode(rows, leave_out_own=leave_out)
        assert batch.place.shape == (2, 0)
        assert head(batch, decay(rows, 2)).shape == (0, 1)
        assert batch.seen.tolist() == [[0, 1], [0, 2]]


def test_weights_of_narrower_histories_count_the_same(many):
    rows = rows_of(many).truncated(3)
    head, weights = random_head(rows_of(many)), random_weights(rows)
    batch = head.encode(rows, leave_out_own=True)
    torch.testing.assert_close(head(batch, weights[..., -3:]), head(batch, weights))
