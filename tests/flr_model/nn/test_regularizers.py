import math

import pytest
import torch

from flr_model.nn.regularizers import attention_diversity, orthogonality, sparsity


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ([[1, 0], [3, 0]], 1.0),  # parallel
        ([[1, 0], [-2, 0]], 1.0),  # opposite is no better
        ([[1, 0], [0, 5]], 0.0),  # orthogonal
        ([[2, 0], [1, 1]], 0.5),  # 45 degrees: cos^2 = 1/2
        ([[1, 0], [1, 0], [0, 1]], 1 / 3),  # one of three pairs is parallel
        ([[1, 0]], 0.0),  # no pair
    ],
)
def test_orthogonality_is_the_mean_squared_cosine_over_pairs(factors, expected):
    assert orthogonality(torch.tensor([factors], dtype=torch.float32)).item() == pytest.approx(expected, abs=1e-6)


def test_orthogonality_is_averaged_over_the_batch():
    factors = torch.tensor([[[1.0, 0], [1, 0]], [[1, 0], [0, 1]]])
    assert orthogonality(factors).item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("attention", "expected"),
    [
        ([[0.2, 0.8], [0.2, 0.8]], 1.0),
        ([[1, 0], [0, 1]], 0.0),
        ([[1, 0], [0.5, 0.5]], 1 / math.sqrt(2)),  # 0.5 / (1 * sqrt(0.5))
        ([[1.0, 0]], 0.0),
    ],
)
def test_diversity_is_the_mean_cosine_of_attentions(attention, expected):
    assert attention_diversity(torch.tensor([attention], dtype=torch.float32)).item() == pytest.approx(
        expected, abs=1e-6
    )


def test_a_factor_of_zeros_gives_finite_gradients():
    factors = torch.zeros(1, 2, 3, requires_grad=True)
    orthogonality(factors).backward()
    assert factors.grad.isfinite().all()


ONE_EACH, ALL_THE_SAME, UNIFORM = [[1, 0], [0, 1]], [[1, 0], [1, 0]], [[0.5, 0.5], [0.5, 0.5]]
LEANING = [[0.75, 0.25], [0.25, 0.75]]


def sparsity_of(gates):
    return sparsity(torch.tensor(gates, dtype=torch.float32)).item()


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        (ONE_EACH, 0 - 2),  # no entropy of a user, full entropy of the mean
        (ALL_THE_SAME, 0 - 0),
        (UNIFORM, 1 - 2),
        (LEANING, 0.811278 - 2),  # -(3/4 log2 3/4 + 1/4 log2 1/4) = 2 - 3/4 log2 3
    ],
)
def test_sparsity_is_the_entropy_of_users_less_twice_that_of_their_mean(gates, expected):
    assert sparsity_of(gates) == pytest.approx(expected, abs=1e-6)


def test_sparsity_prefers_users_of_different_factors_and_never_one_factor_for_all():
    assert sparsity_of(ONE_EACH) < sparsity_of(LEANING) < sparsity_of(UNIFORM) < sparsity_of(ALL_THE_SAME)


def test_sparsity_of_one_factor_is_zero():
    assert sparsity_of([[1.0], [1.0]]) == 0


def test_sparsity_has_finite_gradients_where_a_gate_is_zero():
    logits = torch.tensor([[200.0, 0.0], [0.0, 1.0]], requires_grad=True)  # the softmax of the first row is (1, 0)
    sparsity(logits.softmax(-1)).backward()
    assert logits.grad.isfinite().all()
