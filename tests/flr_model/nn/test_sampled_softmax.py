import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from flr_model.nn.sampled_softmax import SampledItems, sample_items, sampled_cross_entropy

SCORES = torch.tensor([[0.5, -1.0, 2.0, 0.0], [1.0, 1.0, -2.0, 0.3]])
TARGET = torch.tensor([2, 0])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def candidates_of(drawn, n_items=4, target=TARGET):
    items = torch.cat([torch.tensor(drawn), target]).unique()
    return SampledItems(items, torch.isin(items, torch.tensor(drawn)), math.log(n_items / len(drawn)))


def test_with_every_item_drawn_it_is_the_full_cross_entropy():
    candidates = sample_items(TARGET, 4, 100, seeded(0))
    assert candidates.items.tolist() == [0, 1, 2, 3]
    assert candidates.correction == 0
    assert torch.equal(sampled_cross_entropy(SCORES, TARGET, candidates), F.cross_entropy(SCORES, TARGET))


def test_the_loss_of_one_draw_is_the_one_worked_out_by_hand():
    # Items 1 and 2 are drawn of 4, so a negative stands for 2 items. Row 0 has target 2: itself once, item 1 twice;
    # item 0 is only the other row's target. Row 1 has target 0: itself once, items 1 and 2 twice.
    candidates = candidates_of([1, 2])
    assert candidates.items.tolist() == [0, 1, 2]
    first = math.log(math.exp(2) + 2 * math.exp(-1)) - 2
    second = math.log(math.exp(1) + 2 * math.exp(1) + 2 * math.exp(-2)) - 1
    loss = sampled_cross_entropy(SCORES[:, candidates.items], TARGET, candidates)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_the_correction_is_right_in_expectation():
    scores, target = SCORES[:1], TARGET[:1]
    denominators = []
    for drawn in itertools.combinations(range(4), 2):
        candidates = candidates_of(list(drawn), target=target)
        loss = sampled_cross_entropy(scores[:, candidates.items], target, candidates)
        denominators.append(math.exp(loss.item() + scores[0, target].item()))
    # All six draws are equally likely; the mean of the estimated denominators is the true one.
    assert sum(denominators) / 6 == pytest.approx(scores.exp().sum().item(), rel=1e-5)


@pytest.mark.parametrize(("n_items", "n_negatives"), [(40, 20), (200, 20)])
def test_draws_are_distinct_hold_the_targets_and_are_uniform(n_items, n_negatives):
    target, generator, counts = torch.tensor([3, 17, 3]), seeded(0), torch.zeros(n_items)
    drawn = 0
    for _ in range(400):
        candidates = sample_items(target, n_items, n_negatives, generator)
        assert len(candidates.items.unique()) == len(candidates.items)
        assert torch.isin(target, candidates.items).all()
        negatives = candidates.items[candidates.negative]
        assert len(negatives) <= n_negatives
        assert candidates.correction == pytest.approx(math.log(n_items / len(negatives)), rel=1e-5)
        counts[negatives] += 1
        drawn += len(negatives)
    expected = drawn / n_items
    assert (counts - expected).abs().max() < 5 * math.sqrt(expected)


def test_a_seeded_draw_is_repeated():
    first, second = (sample_items(TARGET, 500, 20, seeded(7)).items for _ in range(2))
    assert torch.equal(first, second)
