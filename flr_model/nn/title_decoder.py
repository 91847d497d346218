"""The `title` decoder: how likely the language model is to write a title (docs/method.md, "Title decoder").

Shapes: B users, G thoughts a user, T tokens of a title with its end, d width of the backbone, V vocabulary,
C choices of all titles, P pairs of a choice and an option.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from flr_model.nn.parameter_groups import Groups
from flr_model.titles.tree import Choices


class TitleBatch(NamedTuple):
    """The titles of B users as tensors; see `flr_model.titles.tree.Choices`.

    tokens: (B, T). choice: (2, C) row and place. option: (2, P) choice and token.
    """

    tokens: Tensor
    choice: Tensor
    option: Tensor

    @classmethod
    def of(cls, choices: Choices) -> TitleBatch:
        """Turn arrays into tensors."""
        pairs = np.stack([choices.row, choices.place]), np.stack([choices.owner, choices.option])
        return cls(*(torch.from_numpy(array) for array in (choices.tokens, *pairs)))


class TitleDecoder(nn.Module):
    """Turns states into likelihoods of titles.

    Args:
        own_head: (V, d) output embeddings of a backbone that has its own; they stay as they are. None where the input
            embeddings are the output embeddings too.
        scale: of the logits, to begin with. The first layers alone are sure of the wrong tokens, so a truncated
            backbone should begin with little say.
    """

    def __init__(self, own_head: Tensor | None = None, *, scale: float = 1.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.own_head = None if own_head is None else nn.Parameter(own_head, requires_grad=False)

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        return {"backbone": [] if self.own_head is None else [self.own_head], "scalars": [self.log_scale]}

    def forward(
        self, states: Tensor, head: Tensor, titles: TitleBatch, *, whole_vocabulary: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Score titles.

        Args:
            states: (B, G, T, d), from each of which the title's token at that place is predicted.
            head: (V, d) output embeddings.
            titles: B titles and their choices.
            whole_vocabulary: let a token compete with all tokens, not only with the choice's options.

        Returns:
            (B, G) log-likelihoods, and (B,) how many choices each is made of.
        """
        row, place = titles.choice
        at_choice = states[row, :, place] * self.log_scale.exp()  # (C, G, d)
        taken = titles.tokens[row, place]
        if whole_vocabulary:
            logits, column = at_choice @ head.T, taken
        else:
            n_options = titles.option.shape[1]
            tokens, index = torch.unique(torch.cat([titles.option[1], taken]), return_inverse=True)
            offered = torch.zeros(len(row), len(tokens), dtype=torch.bool, device=states.device)
            offered[titles.option[0], index[:n_options]] = True
            logits, column = (at_choice @ head[tokens].T).masked_fill(~offered[:, None], -torch.inf), index[n_options:]
        chosen = logits.gather(-1, column[:, None, None].expand(-1, logits.shape[1], 1)).squeeze(-1)
        likelihood = chosen - logits.logsumexp(-1)  # (C, G)
        total = likelihood.new_zeros(states.shape[:2]).index_add(0, row, likelihood)
        return total, torch.bincount(row, minlength=len(states))
