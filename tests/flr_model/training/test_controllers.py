import pytest
import torch

from flr_model.training.controllers import Exploration, Fidelity


def test_samples_lie_further_where_more_than_a_fifth_are_better():
    better = torch.tensor([[0.0, 1, -1, -1, -1, -1], [0.0, 1, 1, -1, -1, -1]])  # 3 of 10
    for rewards, grows in ((better, True), (-better[:, [0, 1, 1, 2, 2, 2]], True), (torch.zeros(2, 6), False)):
        noise = Exploration(None)
        noise.learn(rewards)
        assert (noise.value > 0.5) == grows
    exactly = Exploration(None)
    exactly.learn(better[:1])
    assert exactly.value == pytest.approx(0.5)


def test_leaving_sft_gets_dear_when_rows_lose_and_cheap_when_they_gain():
    gain = torch.tensor([0.1, 0.2, 0.0, 0.1])
    for sign in (1, -1):
        weight = Fidelity(None)
        weight.learn(sign * gain)
        assert (weight.value < 0.1) == (sign > 0)
    unsure = Fidelity(None)
    unsure.learn(torch.tensor([1.0, -1.0, 0.1]))
    sure = Fidelity(None)
    sure.learn(gain)
    assert sure.value < unsure.value < 0.1


@pytest.mark.parametrize("kind", [Exploration, Fidelity])
def test_values_stay_within_bounds_and_fixed_ones_stay(kind):
    signal = torch.tensor([[0.0, 1.0], [0.0, 2.0]]) if kind is Exploration else torch.tensor([0.1, 0.2])
    for sign in (1, -1):
        adapted, fixed = kind(None), kind(0.3)
        for _ in range(100):
            adapted.learn(sign * signal)
            fixed.learn(sign * signal)
        assert adapted.value in kind.bounds
        assert fixed.value == 0.3


def test_no_gain_at_all_changes_nothing():
    weight = Fidelity(None)
    weight.learn(torch.zeros(4))
    weight.learn(torch.ones(1))
    assert weight.value == Fidelity.start
