import numpy as np
import pytest
import torch

from flr_model.nn.sampled_softmax import Softmax
from flr_model.training.objective import SftObjective
from flr_model.training.setup import set_up
from tests.builders import tiny_model, tiny_train


@pytest.fixture(scope="module")
def setup(tiny_dataset, tiny_backbone):
    torch.manual_seed(0)
    setup = set_up(tiny_dataset, tiny_model(tiny_backbone, dropout=0.0), tiny_train())
    for parameter in setup.recommender.head.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return setup


def parts_of(setup, softmax=None, **changes):
    setup.recommender.head.softmax = softmax or Softmax(full_items=1000, negatives=1)
    batch = setup.recommender.encode(setup.rows.select(slice(0, 32)), training=True)
    return SftObjective(setup.recommender, tiny_train(**changes)).eval()(batch)


def test_the_loss_is_the_weighed_sum_of_its_parts(setup):
    weights = {"orthogonality": 0.5, "diversity": 0.25, "sparsity": 2.0}
    parts = parts_of(setup, **weights)
    expected = parts["cross_entropy"] + sum(weight * parts[name] for name, weight in weights.items())
    torch.testing.assert_close(parts["loss"].detach(), expected)
    assert parts["loss"].requires_grad
    assert not any(part.requires_grad for name, part in parts.items() if name != "loss")


def test_the_cross_entropy_is_that_of_the_probabilities_which_the_recommender_gives(setup):
    rows = setup.rows.select(slice(0, 32))
    probabilities = setup.recommender.recommender().scores(rows)[np.arange(32), rows.target]
    setup.recommender.head.softmax = Softmax(full_items=1000, negatives=1)
    batch = setup.recommender.encode(rows, training=False)  # nobody's own events are left out when users are scored
    found = SftObjective(setup.recommender, tiny_train()).eval()(batch)["cross_entropy"]
    assert found.item() == pytest.approx(-probabilities.mean(), abs=1e-4)


def test_the_sampled_loss_with_all_items_drawn_equals_the_full_one(setup):
    full = parts_of(setup)["cross_entropy"]
    torch.testing.assert_close(parts_of(setup, Softmax(full_items=1, negatives=60))["cross_entropy"], full)


def test_checkpoints_hold_what_learns_and_no_frozen_backbone(setup):
    names = SftObjective(setup.recommender, tiny_train()).state_dict()
    assert names
    assert not any(".lm." in name for name in names)
