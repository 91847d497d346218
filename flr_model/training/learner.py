"""What the training loop runs: a module with a loss, and the groups of its parameters."""

from __future__ import annotations

from typing import Any

from torch import nn

from flr_model.nn.parameter_groups import Groups
from flr_model.nn.recommender import TrainableRecommender


class Learner(nn.Module):
    """A module that the training loop runs; checkpoints leave out what does not learn in it.

    Args:
        recommender: what learns, or a part of it.
    """

    _keys_to_ignore_on_save = None  # the Trainer asks every model for it

    def __init__(self, recommender: TrainableRecommender) -> None:
        super().__init__()
        self.recommender = recommender

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        return self.recommender.parameter_groups()

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return all but what is frozen, which checkpoints need not repeat."""
        frozen = {name for name, parameter in self.named_parameters() if not parameter.requires_grad}
        state = super().state_dict(*args, **kwargs)
        return {name: value for name, value in state.items() if name not in frozen}
