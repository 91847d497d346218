import math

import pytest
import torch
from torch.nn import functional as F

from flr_model.nn.reasoner import ATTENTION_WIDTH, Reasoner

BATCH, POSITIONS, WIDTH = 3, 5, 8


@pytest.fixture
def inputs():
    """start, history, mask, age; the second row has two positions of padding."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(BATCH, POSITIONS, dtype=torch.long)
    mask[1, :2] = 0
    age = torch.arange(POSITIONS - 1, -1, -1).expand(BATCH, -1)
    start, history = (torch.randn(*shape, generator=generator) for shape in ((BATCH, WIDTH), (BATCH, POSITIONS, WIDTH)))
    return start, history, mask, age


def random_reasoner(n_factors=3, refine_steps=2):
    torch.manual_seed(0)
    reasoner = Reasoner(WIDTH, n_factors, refine_steps)
    for parameter in reasoner.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return reasoner.eval()


def test_one_factor_and_one_step_are_a_single_attention_worked_out_by_hand():
    reasoner = Reasoner(2, 1, 1)
    with torch.no_grad():
        reasoner.slope.zero_()
        reasoner.value.copy_(torch.eye(2)[None])
        reasoner.key.weight.zero_()
        reasoner.key.weight[0, 0] = 1 / math.sqrt(2)
        reasoner.factor_query.zero_()
        reasoner.factor_query[0, 0] = math.sqrt(ATTENTION_WIDTH) * math.log(3)
        # The states (1, 0) and (0, 1) have a root mean square of sqrt(1/2), so the norm makes them (sqrt 2, 0) and
        # (0, sqrt 2): keys 1 and 0, logits log 3 and 0, attention 3/4 and 1/4.
        thought = reasoner(
            torch.tensor([[0.0, 7.0]]), torch.eye(2)[None], torch.ones(1, 2).long(), torch.tensor([[1, 0]])
        )
    torch.testing.assert_close(thought.attention, torch.tensor([[[0.75, 0.25]]]))
    torch.testing.assert_close(thought.factors, torch.tensor([[[0.75, 0.25]]]) * math.sqrt(2))
    torch.testing.assert_close(thought.gates, torch.ones(1, 1))
    # (0, sqrt 2) + factor = sqrt 2 (0.75, 1.25), with a mean square of 0.75^2 + 1.25^2 = 2.125.
    torch.testing.assert_close(thought.thought, torch.tensor([[0.75, 1.25]]) * math.sqrt(2 / 2.125))


def test_one_factor_and_one_step_equal_torch_attention(inputs):
    start, history, mask, age = inputs
    reasoner = random_reasoner(n_factors=1, refine_steps=1)
    thought = reasoner(start, history, mask, age)
    rms = reasoner.norm
    query = (reasoner.query(rms(start)) + reasoner.factor_query)[:, None]
    bias = (-reasoner.slope * age).masked_fill(mask == 0, -torch.inf)[:, None]
    expected = F.scaled_dot_product_attention(query, reasoner.key(rms(history)), rms(history), attn_mask=bias)
    torch.testing.assert_close(thought.factors, expected @ reasoner.value[0])
    torch.testing.assert_close(thought.thought, rms(rms(start) + thought.factors[:, 0]))


def test_untrained_it_weighs_the_history_by_recency_alone(inputs):
    reasoner = Reasoner(WIDTH, 4, 2)
    torch.nn.init.zeros_(reasoner.factor_query)  # all but zero at the start, so that factors can part
    thought = reasoner(*inputs)
    _, _, mask, age = inputs
    recency = torch.where(mask == 1, torch.exp(-reasoner.slope[:, None, None] * age), 0.0)  # (K, B, S)
    torch.testing.assert_close(thought.attention, (recency / recency.sum(-1, keepdim=True)).transpose(0, 1))
    torch.testing.assert_close(thought.gates, torch.full((BATCH, 4), 0.25))


def test_gates_and_attention_are_distributions_and_padding_has_no_part(inputs):
    thought = random_reasoner()(*inputs)
    torch.testing.assert_close(thought.attention.sum(-1), torch.ones(BATCH, 3))
    torch.testing.assert_close(thought.gates.sum(-1), torch.ones(BATCH, 3)[:, 0])
    assert (thought.attention[1, :, :2] == 0).all()
    assert (thought.attention[0] > 0).all()


def test_padding_changes_nothing_whatever_stands_in_it(inputs):
    start, history, mask, age = inputs
    reasoner = random_reasoner()
    padded = reasoner(start[1:2], history[1:2].clone().index_fill_(1, torch.tensor([0, 1]), 1e4), mask[1:2], age[1:2])
    alone = reasoner(start[1:2], history[1:2, 2:], mask[1:2, 2:], age[1:2, 2:])
    torch.testing.assert_close(padded.thought, alone.thought)
    torch.testing.assert_close(padded.gates, alone.gates)
    torch.testing.assert_close(padded.attention[..., 2:], alone.attention)


def test_every_step_refines_the_thought(inputs):
    one, two = random_reasoner(refine_steps=1), random_reasoner(refine_steps=2)
    two.load_state_dict(one.state_dict())
    once = one(*inputs)
    # A second step is a step whose start is the first one's thought.
    torch.testing.assert_close(two(*inputs).thought, one(once.thought, *inputs[1:]).thought)


def test_the_thought_has_a_root_mean_square_of_one(inputs):
    thought = random_reasoner()(*inputs).thought
    torch.testing.assert_close(thought.square().mean(-1), torch.ones(BATCH))


@pytest.mark.parametrize("sizes", [(0, 1, 1), (4, 0, 1), (4, 1, 0)])
def test_sizes_that_are_not_positive_are_refused(sizes):
    with pytest.raises(ValueError, match="positive"):
        Reasoner(*sizes)
