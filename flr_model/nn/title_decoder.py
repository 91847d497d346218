"""The `title` decoder: how likely the language model is to write a title (docs/method.md, "Title decoder").

Shapes: B users, G latent tokens that a user's title may follow, N that are read, T tokens of a title with its end, d
width of the backbone, D width of item vectors, V vocabulary, C choices of all titles, P pairs of a choice and
option.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flr_model.nn.backbone import LENGTH_GROUPS, Past, Trunk
from flr_model.nn.history_encoders import ridge
from flr_model.nn.model import FactorizedModel
from flr_model.nn.parameter_groups import Groups
from flr_model.titles.tree import Choices


class TitleBatch(NamedTuple):
    """The titles of B users as tensors; see `flr_model.titles.tree.Choices`.

    tokens: (B, T). choice: (2, C) row and place. option: (2, P) choice and token.
    """

    tokens: Tensor
    choice: Tensor
    option: Tensor

    def lengths(self) -> Tensor:
        """Return the (B,) tokens of each title up to its last choice."""
        row, place = self.choice
        zeros = place.new_zeros(len(self.tokens))
        longest: Tensor = zeros.scatter_reduce(0, row, place + 1, "amax")
        return longest

    @classmethod
    def of(cls, choices: Choices) -> TitleBatch:
        """Turn arrays into tensors."""
        pairs = np.stack([choices.row, choices.place]), np.stack([choices.owner, choices.option])
        return cls(*(torch.from_numpy(array) for array in (choices.tokens, *pairs)))


class TitleDecoder(nn.Module):
    """Turns vectors of item space into latent tokens, and states into likelihoods of titles.

    A title is written after the latent token norm * unit(W_e e): e, the item vector that the factors expect
    (`flr_model.titles.latent`), as a word that the backbone can read.

    Args:
        width: d.
        embedding_size: D.
        untied: (V, d) output embeddings of a backbone that has its own; they stay as they are. None where the input
            embeddings are the output embeddings too.
        scale: of the logits, to begin with. The first layers alone are sure of the wrong tokens, so the logits of a
            truncated backbone should begin small.
    """

    def __init__(self, width: int, embedding_size: int, untied: Tensor | None = None, *, scale: float = 1.0) -> None:
        super().__init__()
        self.spell = nn.Linear(embedding_size, width, bias=False)  # W_e
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.untied = None if untied is None else nn.Parameter(untied, requires_grad=False)

    @torch.no_grad()
    def fit(self, vectors: Tensor, embeddings: Tensor) -> None:
        """Spell item vectors (M, D) as their titles' mean input embeddings (M, d), less what all have in common."""
        self.spell.weight.copy_(ridge(vectors, embeddings)[0])

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        return {
            "backbone": [] if self.untied is None else [self.untied],
            "projection": list(self.spell.parameters()),
            "scalars": [self.log_scale],
        }

    def latent_token(self, model: FactorizedModel, vectors: Tensor) -> Tensor:
        """Return the (..., d) input embeddings that spell vectors of item space (..., D)."""
        return F.normalize(self.spell(vectors), dim=-1) * model.token_norm

    def embed(self, model: FactorizedModel, vectors: Tensor, tokens: Tensor) -> Tensor:
        """Return the (B, N + T, d) input embeddings of latent tokens for vectors (B, N, D), and of tokens (B, T)."""
        return torch.cat([self.latent_token(model, vectors), model.encoder.trunk.embed(tokens)], dim=1)

    def output_embeddings(self, model: FactorizedModel) -> Tensor:
        """Return the (V, d) embeddings whose products with a state are the logits of the next token."""
        return self._embeddings(model) * self.log_scale.exp()

    def likelihood(
        self,
        model: FactorizedModel,
        prompt: tuple[Past, Tensor],
        latent: Tensor,
        titles: TitleBatch,
        *,
        whole_vocabulary: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return (B, G) log-likelihoods of each user's title after G latent tokens (B, G, d), and (B,) their choices.

        Args:
            model: that writes.
            prompt: keys and values of P places, and a (B, P) mask of them.
            latent: (B, G, d).
            titles: of B users.
            whole_vocabulary: see `forward`.
        """
        length = titles.lengths()
        order = length.argsort()
        grouped = []
        for group in order.chunk(LENGTH_GROUPS):  # titles of like length together
            past = tuple((keys[group], values[group]) for keys, values in prompt[0])
            tokens = titles.tokens[group, : max(int(length[group[-1]]) - 1, 0)]
            written = _write(model.encoder.trunk, (past, prompt[1][group]), latent[group], tokens)
            grouped.append(F.pad(written, (0, 0, 0, titles.tokens.shape[1] - written.shape[2])))
        states = torch.cat(grouped)[order.argsort()]
        return self(  # type: ignore[no-any-return]
            states, self._embeddings(model), titles, whole_vocabulary=whole_vocabulary
        )

    def forward(
        self, states: Tensor, embeddings: Tensor, titles: TitleBatch, *, whole_vocabulary: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Score titles.

        Args:
            states: (B, G, T, d), from each of which the title's token at that place is predicted.
            embeddings: (V, d) of the output.
            titles: B titles and their choices.
            whole_vocabulary: let a token compete with all tokens, not only with the choice's options.

        Returns:
            (B, G) log-likelihoods, and (B,) how many choices each is made of.
        """
        row, place = titles.choice
        at_choice = states[row, :, place] * self.log_scale.exp()  # (C, G, d)
        taken = titles.tokens[row, place]
        if whole_vocabulary:
            logits, column = at_choice @ embeddings.T, taken
        else:
            n_options = titles.option.shape[1]
            tokens, index = torch.unique(torch.cat([titles.option[1], taken]), return_inverse=True)
            offered = torch.zeros(len(row), len(tokens), dtype=torch.bool, device=states.device)
            offered[titles.option[0], index[:n_options]] = True
            logits, column = (
                (at_choice @ embeddings[tokens].T).masked_fill(~offered[:, None], -torch.inf),
                index[n_options:],
            )
        chosen = logits.gather(-1, column[:, None, None].expand(-1, logits.shape[1], 1)).squeeze(-1)
        likelihood = chosen - logits.logsumexp(-1)  # (C, G)
        total = likelihood.new_zeros(states.shape[:2]).index_add(0, row, likelihood)
        return total, torch.bincount(row, minlength=len(states))

    def _embeddings(self, model: FactorizedModel) -> Tensor:
        tied: Tensor = model.encoder.trunk.lm.get_input_embeddings().weight
        return tied if self.untied is None else self.untied


def _write(trunk: Trunk, prompt: tuple[Past, Tensor], latent: Tensor, tokens: Tensor) -> Tensor:
    """Run latent tokens and what follows; all of a user share the prompt's keys and values.

    Args:
        trunk: the backbone.
        prompt: keys and values of P places, and a (B, P) mask of them.
        latent: (B, G, d), G a user, each followed by the same tokens.
        tokens: (B, T - 1) of the titles, without the last one.

    Returns:
        (B, G, T, d) states, from each of which the next token is predicted.
    """
    past, mask = prompt
    n_users, group, width = latent.shape
    title = trunk.embed(tokens)[:, None].expand(-1, group, -1, -1)
    embeddings = torch.cat([latent[:, :, None], title], dim=2)  # (B, G, T, d)
    length = embeddings.shape[2]
    depth = torch.arange(length, device=tokens.device).repeat(group)
    member = torch.arange(group, device=tokens.device).repeat_interleave(length)
    own = (member[:, None] == member) & (depth[:, None] >= depth)
    seen = torch.cat([(mask > 0)[:, None].expand(-1, len(depth), -1), own[None].expand(n_users, -1, -1)], dim=2)
    states, _ = trunk.extend(embeddings.flatten(1, 2), mask.sum(1, keepdim=True) + depth, seen, past)
    return states.view(n_users, group, length, width)
