import math

import pytest
import torch
from torch.nn import functional as F

from flr_model.nn.reasoner import ANCHOR, LEAST_MASS, History, Reasoner, centres
from flr_model.nn.recency import Recency

BATCH, ITEMS, WIDTH, SIZE, N_LAGS = 3, 5, 8, 6, 3


@pytest.fixture
def inputs():
    """start and history; the second row has two columns of padding."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(BATCH, ITEMS, dtype=torch.long)
    mask[1, :2] = 0
    start, states, vectors = (
        torch.randn(*shape, generator=generator)
        for shape in ((BATCH, WIDTH), (BATCH, ITEMS, WIDTH), (BATCH, ITEMS, SIZE))
    )
    lag = torch.randint(N_LAGS, (BATCH, ITEMS), generator=generator) * mask
    return start, History(states, vectors * mask[..., None], mask, lag)


def random_reasoner(n_factors=3, refine_steps=2, **options):
    torch.manual_seed(0)
    recency = Recency(n_factors, ITEMS, N_LAGS)
    reasoner = Reasoner(WIDTH, SIZE, n_factors, refine_steps, recency, **options)
    for parameter in reasoner.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return reasoner.eval()


def plain_reasoner(n_factors):
    """Of two-dimensional states and vectors: values are identities, the place and time of an item mean nothing."""
    recency = Recency(n_factors, 3, 2)
    reasoner = Reasoner(2, 2, n_factors, 1, recency)
    with torch.no_grad():
        recency.age.zero_()
        reasoner.value.copy_(torch.eye(2).expand(n_factors, -1, -1))
    return reasoner


def history_of(vectors, states):
    ones = torch.ones(1, len(vectors), dtype=torch.long)
    return History(torch.tensor([states]), torch.tensor([vectors]), ones, torch.zeros_like(ones))


def test_one_factor_and_one_step_are_worked_out_by_hand():
    reasoner = plain_reasoner(1)
    with torch.no_grad():
        reasoner.recency.age.copy_(torch.tensor([[0.0, -math.log(3), -9.0]]))  # the older of two weighs a third
    thought = reasoner(torch.tensor([[0.0, 7.0]]), history_of([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(thought.attention, torch.tensor([[[0.25, 0.75]]]))
    torch.testing.assert_close(thought.log_weights.exp(), torch.tensor([[[1 / 3, 1.0]]]))
    # The states have a root mean square of sqrt(1/2), so the norm makes them (sqrt 2, 0) and (0, sqrt 2).
    torch.testing.assert_close(thought.factors, torch.tensor([[[0.25, 0.75]]]) * math.sqrt(2))
    torch.testing.assert_close(thought.read, torch.tensor([[[0.25, 0.75]]]))
    torch.testing.assert_close(thought.gates, torch.ones(1, 1))
    # (0, sqrt 2) + factor = sqrt 2 (0.25, 1.75), with a mean square of 0.25^2 + 1.75^2 = 3.125.
    torch.testing.assert_close(thought.thought, torch.tensor([[0.25, 1.75]]) * math.sqrt(2 / 3.125))


@pytest.fixture
def rivals():
    """Two factors at (1, 0) and (0, 1), a cosine of 1 counts log 3; a history of two items there and one here."""
    reasoner = plain_reasoner(2)
    with torch.no_grad():
        reasoner.centre.copy_(torch.eye(2))
        reasoner.log_sharpness.fill_(math.log(math.log(3)))
        reasoner.competition.fill_(1.0)
    return reasoner, history_of([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])


def test_two_factors_compete_for_items_as_worked_out_by_hand(rivals):
    reasoner, history = rivals
    first = reasoner.conclude(torch.ones(1, 2), torch.zeros(1, 2, 2), history)
    # Odds of 3 to 1 for the near factor, whatever an item's length.
    torch.testing.assert_close(first.log_weights.exp()[0], torch.tensor([[3, 3, 1], [1, 1, 3]]) / 4)
    torch.testing.assert_close(first.attention[0], torch.tensor([[3 / 7, 3 / 7, 1 / 7], [1 / 5, 1 / 5, 3 / 5]]))
    # The factors hold 7/4 and 5/4 of the three items.
    share = torch.tensor([[7 / 12, 5 / 12]]) + LEAST_MASS
    torch.testing.assert_close(first.gates, share / share.sum())
    torch.testing.assert_close(first.factors[0, 1], torch.tensor([2 / 5, 3 / 5]) * math.sqrt(2))


def test_what_the_factors_read_moves_their_queries(rivals):
    reasoner, history = rivals
    thought = reasoner(torch.ones(1, 2), history)
    read = torch.tensor([[[9 / 7, 1 / 7], [3 / 5, 3 / 5]]])  # of (1, 0), (2, 0) and (0, 1), by the attention above
    torch.testing.assert_close(thought.read, read)
    query = F.normalize(read[0] + ANCHOR * torch.eye(2), dim=-1)
    odds = 3 ** (query @ F.normalize(history.vectors[0], dim=-1).T)
    torch.testing.assert_close(thought.log_weights.exp()[0], odds / odds.sum(0))


def test_a_factors_bias_wins_items_and_the_gates_weigh_taste(rivals):
    reasoner, history = rivals
    with torch.no_grad():
        reasoner.slot_bias.copy_(torch.tensor([math.log(3), 0.0]))
    first = reasoner.conclude(torch.ones(1, 2), torch.zeros(1, 2, 2), history)
    torch.testing.assert_close(first.log_weights.exp()[0], torch.tensor([[0.9, 0.9, 0.5], [0.1, 0.1, 0.5]]))
    with torch.no_grad():
        reasoner.mass_weight.zero_()
        reasoner.taste_gate.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    tasted = reasoner.conclude(torch.ones(1, 2), torch.zeros(1, 2, 2), history)
    mean_read = (tasted.attention @ history.vectors).mean(1)
    torch.testing.assert_close(tasted.gate_logits, torch.stack([8 * mean_read[:, 0], torch.zeros(1)], dim=1))


def test_a_single_factor_starts_with_recency_alone(inputs):
    reasoner = random_reasoner(n_factors=1)
    torch.nn.init.zeros_(reasoner.competition)
    _, history = inputs
    by_place = reasoner.recency(history.lag).masked_fill(history.mask[:, None] == 0, -torch.inf)
    torch.testing.assert_close(reasoner(*inputs).attention, by_place.softmax(-1))


def test_a_single_factor_that_competes_with_nobody_looks_by_its_match():
    reasoner = plain_reasoner(1)
    with torch.no_grad():
        reasoner.centre.copy_(torch.tensor([[0.0, 5.0]]))
        reasoner.log_sharpness.fill_(math.log(math.log(3)))
        reasoner.competition.fill_(2.0)
    history = history_of([[1.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]])
    first = reasoner.conclude(torch.ones(1, 2), torch.zeros(1, 1, 2), history)
    torch.testing.assert_close(first.attention, torch.tensor([[[0.1, 0.9]]]))  # 3 to the power of twice the cosine


def test_the_thought_moves_gates_and_queries(rivals):
    reasoner, history = rivals
    with torch.no_grad():
        reasoner.thought_gate.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, -1.0]]))
        reasoner.query.weight.copy_(math.sqrt(2) * torch.eye(2))
    calm, moved = (
        reasoner.conclude(torch.tensor([thought]), torch.zeros(1, 2, 2), history)
        for thought in ([0.0, 0.0], [2.0, -1.0])
    )
    query = F.normalize(torch.eye(2) + torch.tensor([2.0, -1.0]), dim=-1)
    odds = 3 ** (query @ F.normalize(history.vectors[0], dim=-1).T)
    torch.testing.assert_close(moved.log_weights.exp()[0], odds / odds.sum(0))
    share = odds / odds.sum(0)
    by_mass = (share.sum(1) / 3 + LEAST_MASS).log()
    torch.testing.assert_close(moved.gate_logits[0], by_mass + torch.tensor([0.0, 3.0]))
    assert calm.gate_logits[0, 0] > calm.gate_logits[0, 1]


def test_without_competition_a_factor_looks_at_the_whole_history(rivals):
    reasoner, history = rivals
    with torch.no_grad():
        reasoner.competition.copy_(torch.tensor([0.0, 2.0]))
    first = reasoner.conclude(torch.ones(1, 2), torch.zeros(1, 2, 2), history)
    torch.testing.assert_close(first.log_weights.exp()[0], torch.tensor([[1, 1, 1], [1 / 16, 1 / 16, 9 / 16]]))


def test_the_first_factor_starts_as_a_generalist(inputs):
    torch.manual_seed(0)
    reasoner = Reasoner(WIDTH, SIZE, 3, 1, Recency(3, ITEMS, N_LAGS))
    start, history = inputs
    log_weights, by_place = reasoner(start, history).log_weights, reasoner.recency(history.lag)
    torch.testing.assert_close(log_weights[[0, 2], 0], by_place[[0, 2], 0])
    assert (log_weights[[0, 2], 1:] < by_place[[0, 2], 1:]).all()


def test_untrained_the_thought_moves_neither_attention_nor_gates(inputs):
    torch.manual_seed(0)
    reasoner = Reasoner(WIDTH, SIZE, 4, 2, Recency(4, ITEMS, N_LAGS)).eval()
    start, history = inputs
    one, other = reasoner(start, history), reasoner(-3 * start, history)
    torch.testing.assert_close(one.attention, other.attention)
    torch.testing.assert_close(one.gates, other.gates)
    assert one.attention.std(dim=1).max() > 0.05  # but the factors look at different items


def test_gates_and_attention_are_distributions_and_padding_has_no_part(inputs):
    thought = random_reasoner()(*inputs)
    torch.testing.assert_close(thought.attention.sum(-1), torch.ones(BATCH, 3))
    torch.testing.assert_close(thought.gates.sum(-1), torch.ones(BATCH))
    assert (thought.attention[1, :, :2] == 0).all()
    assert (thought.log_weights.exp()[1, :, :2] == 0).all()
    assert (thought.attention[0] > 0).all()


def test_padding_changes_nothing_whatever_states_stand_in_it(inputs):
    start, history = inputs
    reasoner = random_reasoner()
    states = history.states[1:2].index_fill(1, torch.tensor([0, 1]), 1e4)
    padded = reasoner(start[1:2], History(states, *(part[1:2] for part in history[1:])))
    alone = reasoner(start[1:2], History(*(part[1:2, 2:] for part in history)))
    for name in ("thought", "factors", "gate_logits", "read"):
        torch.testing.assert_close(getattr(padded, name), getattr(alone, name))
    torch.testing.assert_close(padded.attention[..., 2:], alone.attention)
    torch.testing.assert_close(padded.log_weights[..., 2:], alone.log_weights)


def test_every_step_refines_the_thought_and_what_was_read(inputs):
    one, two = random_reasoner(refine_steps=1), random_reasoner(refine_steps=2)
    two.load_state_dict(one.state_dict())
    once = one(*inputs)
    twice = one.conclude(
        one.norm(once.thought + (once.gates[..., None] * once.factors).sum(1)),
        once.attention @ inputs[1].vectors,
        inputs[1],
    )
    found = two(*inputs)
    torch.testing.assert_close(found.thought, twice.thought)
    torch.testing.assert_close(found.attention, twice.attention)
    assert (found.attention - once.attention).abs().max() > 1e-3


def test_the_thought_has_a_root_mean_square_of_one(inputs):
    thought = random_reasoner()(*inputs).thought
    torch.testing.assert_close(thought.square().mean(-1), torch.ones(BATCH))


@pytest.mark.parametrize("sizes", [(0, 4, 1, 1), (4, 0, 1, 1), (4, 4, 0, 1), (4, 4, 1, 0)])
def test_sizes_that_are_not_positive_are_refused(sizes):
    with pytest.raises(ValueError, match="positive"):
        Reasoner(*sizes, Recency(1, 3, 2))


@pytest.mark.parametrize("seed", range(8))
def test_factors_start_in_the_midst_of_planted_clusters(seed):
    generator = torch.Generator().manual_seed(1)
    planted = F.normalize(torch.randn(4, 16, generator=generator), dim=-1)
    vectors = planted.repeat_interleave(50, 0) + 0.1 * torch.randn(200, 16, generator=generator)
    reasoner = Reasoner(WIDTH, 16, 4, 1, Recency(4, ITEMS, N_LAGS))
    reasoner.fit(vectors, seed=seed)
    near = reasoner.centre.detach() @ planted.T
    assert sorted(near.argmax(1).tolist()) == [0, 1, 2, 3]
    assert near.max(1).values.min() > 0.95


def test_more_centres_than_vectors_are_still_unit_directions():
    found = centres(torch.eye(3)[:2] * 5, 4, seed=0)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(4))
    assert {0, 1} <= set((found @ torch.eye(3)).argmax(1).tolist())
    assert torch.equal(found, centres(torch.eye(3)[:2] * 5, 4, seed=0))
