"""The language model that writes titles, and how likely it is to write one (docs/method.md, "Title decoder").

Shapes: B users, P places of the prompt, G latent tokens that a user's title may follow, N that are read, T tokens of a
title with its end, d width of the backbone, D width of item vectors, V vocabulary, C choices of all titles, O pairs of
a choice and an option.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flr_model.nn.backbone import LENGTH_GROUPS, Past, Trunk
from flr_model.nn.history_encoders import EmbeddedHistory, HistoryBatch, HistoryEncoder, ridge
from flr_model.nn.parameter_groups import Groups, join_groups
from flr_model.titles.tokens import Ints
from flr_model.titles.tree import Choices


class TitleBatch(NamedTuple):
    """The titles of B users as tensors; see `flr_model.titles.tree.Choices`.

    tokens: (B, T). choice: (2, C) row and place. option: (2, O) choice and token.
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


class Prompt(nn.Module):
    """Tokens around a history.

    Args:
        before: tokens before the history.
        after: tokens behind it.
    """

    before: Tensor
    after: Tensor

    def __init__(self, before: Ints, after: Ints) -> None:
        super().__init__()
        self.register_buffer("before", torch.from_numpy(before), persistent=False)
        self.register_buffer("after", torch.from_numpy(after), persistent=False)

    def around(self, trunk: Trunk, history: EmbeddedHistory) -> tuple[Tensor, Tensor]:
        """Return the (B, P, d) embeddings of a history between the prompt's two parts, and their (B, P) mask."""
        # Sizes come from shapes, not from len(), which a tracer takes for constants.
        n_users = history.embeddings.shape[0]
        sides = [trunk.embed(tokens.expand(n_users, -1)) for tokens in (self.before, self.after)]
        real = [torch.ones_like(side[..., 0], dtype=history.mask.dtype) for side in sides]
        embeddings = torch.cat([sides[0], history.embeddings, sides[1]], dim=1)
        return embeddings, torch.cat([real[0], history.mask, real[1]], dim=1)


class TitleWriter(nn.Module):
    """A language model that reads a history in a prompt and writes the title of the next item.

    A title is written after the latent token norm * unit(W_e e): e, the item vector that the factors expect
    (`flr_model.titles.latent`), as a word that the language model can read.

    Args:
        encoder: of the histories; holds the trunk that writes.
        prompt: around a history.
        embedding_size: D.
        untied: (V, d) output embeddings of a language model that has its own; they stay as they are. None where the
            input embeddings are the output embeddings too.
        scale: of the logits, to begin with. The first layers alone are sure of the wrong tokens, so the logits of a
            truncated language model should begin small.
        whole_vocabulary: let a token of a title compete with all tokens, so that those without an alternative count
            too, not only with the tokens that continue a title of the catalogue.
    """

    token_norm: Tensor
    """() mean norm of the input embeddings before training."""

    def __init__(
        self,
        encoder: HistoryEncoder,
        prompt: Prompt,
        embedding_size: int,
        untied: Tensor | None = None,
        *,
        scale: float = 1.0,
        whole_vocabulary: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.prompt = prompt
        self.spell = nn.Linear(embedding_size, encoder.trunk.width, bias=False)  # W_e
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.untied = None if untied is None else nn.Parameter(untied, requires_grad=False)
        self.whole_vocabulary = whole_vocabulary
        self.register_buffer("token_norm", self._input_embeddings().detach().norm(dim=-1).mean())

    @torch.no_grad()
    def fit(self, vectors: Tensor, embeddings: Tensor) -> None:
        """Read and spell item vectors (M, D) as their titles' mean input embeddings (M, d).

        A spelled vector leaves out what all titles have in common.
        """
        self.encoder.fit(vectors, embeddings)
        self.spell.weight.copy_(ridge(vectors, embeddings)[0])

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        own: Groups = {
            "backbone": [] if self.untied is None else [self.untied],
            "projection": list(self.spell.parameters()),
            "scalars": [self.log_scale],
        }
        return join_groups(self.encoder.parameter_groups(), own)

    def read(self, batch: HistoryBatch) -> tuple[Past, Tensor]:
        """Read histories in the prompt; return keys and values of its P places, and their (B, P) mask."""
        embeddings, mask = self.prompt.around(self.encoder.trunk, self.encoder.embed(batch))
        _, past = self.encoder.trunk.read_by_length(embeddings, mask, keep=True, before=len(self.prompt.before))
        assert past is not None
        return past, mask

    @torch.no_grad()
    def empty_prompt(self, n: int) -> tuple[Past, Tensor]:
        """Return keys and values of the prompt without a history, for n users, and their (n, P) mask."""
        tokens = torch.cat([self.prompt.before, self.prompt.after])[None]
        mask = torch.ones_like(tokens)
        _, past = self.encoder.trunk(self.encoder.trunk.embed(tokens), mask, keep=True)
        assert past is not None
        shared = tuple((keys.expand(n, -1, -1, -1), values.expand(n, -1, -1, -1)) for keys, values in past)
        return shared, mask.expand(n, -1)

    def latent_token(self, vectors: Tensor) -> Tensor:
        """Return the (..., d) input embeddings that spell vectors of item space (..., D)."""
        return F.normalize(self.spell(vectors), dim=-1) * self.token_norm

    def embed(self, vectors: Tensor, tokens: Tensor) -> Tensor:
        """Return the (B, N + T, d) input embeddings of latent tokens for vectors (B, N, D), and of tokens (B, T)."""
        return torch.cat([self.latent_token(vectors), self.encoder.trunk.embed(tokens)], dim=1)

    def output_embeddings(self) -> Tensor:
        """Return the (V, d) embeddings whose products with a state are the logits of the next token."""
        return self._output_embeddings() * self.log_scale.exp()

    def likelihood(self, prompt: tuple[Past, Tensor], vectors: Tensor, titles: TitleBatch) -> tuple[Tensor, Tensor]:
        """Return how likely each user's title is after latent tokens that spell vectors.

        Args:
            prompt: keys and values of P places, and a (B, P) mask of them.
            vectors: (B, G, D), G a user, each followed by the same title.
            titles: of B users.

        Returns:
            (B, G) log-likelihoods, and (B,) how many choices each is made of.
        """
        length, latent = titles.lengths(), self.latent_token(vectors)
        order = length.argsort()
        grouped = []
        for group in order.chunk(LENGTH_GROUPS):  # titles of like length together
            past = tuple((keys[group], values[group]) for keys, values in prompt[0])
            tokens = titles.tokens[group, : max(int(length[group[-1]]) - 1, 0)]
            written = _write(self.encoder.trunk, (past, prompt[1][group]), latent[group], tokens)
            grouped.append(F.pad(written, (0, 0, 0, titles.tokens.shape[1] - written.shape[2])))
        return self(torch.cat(grouped)[order.argsort()], titles)  # type: ignore[no-any-return]

    def forward(self, states: Tensor, titles: TitleBatch) -> tuple[Tensor, Tensor]:
        """Score titles.

        Args:
            states: (B, G, T, d), from each of which the title's token at that place is predicted.
            titles: B titles and their choices.

        Returns:
            (B, G) log-likelihoods, and (B,) how many choices each is made of.
        """
        embeddings = self._output_embeddings()
        row, place = titles.choice
        at_choice = states[row, :, place] * self.log_scale.exp()  # (C, G, d)
        taken = titles.tokens[row, place]
        if self.whole_vocabulary:
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

    def _input_embeddings(self) -> Tensor:
        weight: Tensor = self.encoder.trunk.lm.get_input_embeddings().weight
        return weight

    def _output_embeddings(self) -> Tensor:
        return self._input_embeddings() if self.untied is None else self.untied


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
