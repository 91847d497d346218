"""The torch network behind a `TitleRecommender`.

Shapes: B histories, L items of a history, P places of the prompt, S new and C cached places, d width of the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flr_model.nn.backbone import Past
from flr_model.nn.reader import Floats, TorchReader
from flr_model.titles.recommender import prompted_states
from flr_model.titles.search import Prompted
from flr_model.titles.tree import Ints


class TorchWriter(TorchReader):
    """Read histories and write titles with torch (see `flr_model.titles.recommender.Writer`)."""

    @cached_property
    def head(self) -> Floats:
        """The (V, d) output embeddings; they must not change while this reader is in use."""
        weights: Floats = self.model.output_embeddings().detach().float().cpu().numpy()
        return weights

    def spell(self, titles: Sequence[str]) -> list[Ints]:
        """Return the tokens of titles, without the end token."""
        return self.tokenizer.encode(titles)

    @torch.no_grad()
    def prompt(self, histories: npt.NDArray[np.int64], vectors: Floats, titles: Sequence[str]) -> Prompted:
        """Read B histories (B, L) up to the latent token."""
        with self.still():
            reading = self.model.read(self.batch(histories, vectors, titles))
            state, mask, past = self.model.end_prompt(reading)
        thought = reading.thought
        arrays = (_array(part) for part in (thought.gates, reading.attention, thought.factors))
        return Prompted(prompted_states(*arrays), _array(state), mask.cpu().numpy(), past)

    @torch.no_grad()
    def extend(self, cache: Past, tokens: Ints, positions: Ints, mask: npt.NDArray[np.bool_]) -> tuple[Floats, Past]:
        """Read tokens (B, S) behind C cached places; a (B, S, C + S) mask says what each sees."""
        trunk, device = self.model.encoder.trunk, self.model.token_length.device
        token, position, seen = (torch.from_numpy(part).to(device) for part in (tokens, positions, mask))
        with self.still():
            states, past = trunk.extend(trunk.embed(token), position, seen, cache)
        return _array(states), past

    def keep(self, cache: Past, users: Ints) -> Past:
        """Return the cache of some of the users."""
        index = torch.from_numpy(users).to(cache[0][0].device)
        return tuple((keys[index], values[index]) for keys, values in cache)


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.float().cpu().numpy()
    return array
