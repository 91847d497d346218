"""The torch network behind a `TitleRecommender`.

Shapes: B histories, L items of a history, P places of the prompt, S new and C cached places, d width of the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch

from flr_model.arrays import Bools, Floats, Ints
from flr_model.nn.backbone import Past
from flr_model.nn.catalog_decoder import CatalogDecoder
from flr_model.nn.item_encoder import ItemEncoder
from flr_model.nn.model import FactorizedModel
from flr_model.nn.reader import TorchReader, eval_mode, to_numpy
from flr_model.nn.title_writer import TitleWriter
from flr_model.ranking.lags import PaddedHistories
from flr_model.titles.search import Prompted
from flr_model.titles.tokens import TitleTokenizer


class TorchWriter(TorchReader):
    """Read histories and write titles with torch (see `flr_model.titles.recommender.Writer`).

    Args:
        model: from histories to thoughts.
        decoder: from thoughts to queries.
        writer: from histories and vectors of item space to titles.
        item_encoder: for titles that are not in the catalogue; None where no such title comes.
        tokenizer: of titles.
    """

    def __init__(
        self,
        model: FactorizedModel,
        decoder: CatalogDecoder,
        writer: TitleWriter,
        item_encoder: ItemEncoder | None,
        tokenizer: TitleTokenizer,
    ) -> None:
        super().__init__(model, decoder, item_encoder, tokenizer)
        self.writer = writer

    @cached_property
    def head(self) -> Floats:
        """The (V, d) output embeddings; they must not change while this reader is in use."""
        return to_numpy(self.writer.output_embeddings().detach())

    def tokenize(self, titles: Sequence[str]) -> list[Ints]:
        """Return the tokens of titles, without the end token."""
        return self.tokenizer.encode(titles)

    @torch.no_grad()
    def prompt(self, histories: PaddedHistories, vectors: Floats, titles: Sequence[str]) -> Prompted:
        """Read B histories in the prompt."""
        with eval_mode(self.writer):
            past, mask = self.writer.read(self.batch(histories, self.table(vectors, titles)))
        return Prompted(mask.cpu().numpy(), past)

    @torch.no_grad()
    def extend(self, cache: Past, tokens: Ints, positions: Ints, mask: Bools, latent: Floats) -> tuple[Floats, Past]:
        """Read latent tokens and tokens behind cached places (see `flr_model.titles.search.TitleReader`)."""
        arrays = tokens, positions, mask, latent
        token, position, seen, vectors = (torch.from_numpy(part).to(self.device) for part in arrays)
        with eval_mode(self.writer):
            embeddings = self.writer.embed(vectors, token)
            states, past = self.writer.encoder.trunk.extend(embeddings, position, seen, cache)
        return to_numpy(states), past

    def keep(self, cache: Past, users: Ints) -> Past:
        """Return the cache of some of the users."""
        index = torch.from_numpy(users).to(cache[0][0].device)
        return tuple((keys[index], values[index]) for keys, values in cache)
