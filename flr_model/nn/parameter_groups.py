"""Which parameters learn alike: every module of ours names the group of each of its parameters.

A learning rate belongs to a group, never to the size of a tensor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from torch import nn

Group = Literal[
    "item_maps",  # maps and scales in item space
    "item_residuals",  # per-item residuals
    "reasoner",  # all that reads the backbone's states
    "projection",  # the map from item vectors into the backbone
    "scalars",  # slopes, scales, kernels, biases of the factors
    "backbone",  # matrices of the language model
    "backbone_vectors",  # its norms and biases
]

Groups = dict[Group, list[nn.Parameter]]


def join_groups(*parts: Mapping[Group, list[nn.Parameter]]) -> Groups:
    """Return the groups of several modules together."""
    joined: Groups = {}
    for part in parts:
        for group, parameters in part.items():
            joined.setdefault(group, []).extend(parameters)
    return joined


def check_groups(module: nn.Module, groups: Groups) -> None:
    """Check that groups partition the parameters of a module.

    Raises:
        AssertionError: if a parameter is in no group, in several, or of another module.
    """
    count = Counter(id(parameter) for parameters in groups.values() for parameter in parameters)
    wrong = {name: count.pop(id(parameter), 0) for name, parameter in module.named_parameters()}
    wrong = {name: n for name, n in wrong.items() if n != 1}
    assert not wrong, f"parameters that are not in exactly one group: {wrong}"
    assert not count, f"{len(count)} parameters in groups are not of the module"
