"""The loss of supervised fine-tuning, as the module that a trainer runs."""

from __future__ import annotations

import torch
from torch import Tensor

from flr_model.config import TrainConfig
from flr_model.nn import regularizers
from flr_model.nn.recommender import Batch, TrainableRecommender
from flr_model.training.learner import Learner


class SftObjective(Learner):
    """How likely the targets are, as the head says, plus the regularisers (docs/method.md, "Losses").

    Args:
        recommender: what learns.
        config: weights of the regularisers.
    """

    def __init__(self, recommender: TrainableRecommender, config: TrainConfig) -> None:
        super().__init__(recommender)
        self.settings = config  # `config` is what the Trainer takes for a transformers one

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss and its detached parts of a batch of rows."""
        recommender, config = self.recommender, self.settings
        reading = recommender.read(batch.inputs)
        terms = recommender.head.loss_terms(recommender.model, recommender.items, reading, batch.targets)
        regularised = {
            "orthogonality": (config.orthogonality, regularizers.orthogonality(reading.thought.factors)),
            "diversity": (config.diversity, regularizers.attention_diversity(reading.thought.attention)),
            "sparsity": (config.sparsity, regularizers.sparsity(reading.thought.gates)),
        }
        loss = torch.stack(list(terms.values())).sum()
        for weight, value in regularised.values():
            loss = loss + weight * value
        parts = {**terms, **{name: value for name, (_, value) in regularised.items()}}
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}}
