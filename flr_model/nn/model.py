"""The whole model: history encoder, reasoner, latent tokens, decoder.

Shapes: B batch, L items of a history, S positions read, K factors, d width of the backbone, D width of item vectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flr_model.config import ModelConfig
from flr_model.nn.backbone import Past, Trunk
from flr_model.nn.catalog_decoder import CatalogDecoder
from flr_model.nn.history_encoders import EncodedHistory, ItemsEncoder, Prompt, TextEncoder
from flr_model.nn.parameter_groups import Groups, join_groups
from flr_model.nn.reasoner import Reasoner, Thought
from flr_model.nn.title_decoder import TitleBatch, TitleDecoder
from flr_model.titles.tokens import TitleTokenizer

TRUNCATED_SCALE = 0.1
"""Of a truncated backbone's logits before training."""


class HistoryBatch(NamedTuple):
    """A batch of histories, padded on the left.

    vectors: (B, L, D) item vectors, zero at padding. mask: (B, L) 1 where an item is. Only for `text`:
    input_ids, token_mask, token_slot: (B, S) tokens, 1 where real, and the history column of each.
    """

    vectors: Tensor
    mask: Tensor
    input_ids: Tensor | None = None
    token_mask: Tensor | None = None
    token_slot: Tensor | None = None


class Reading(NamedTuple):
    """What the model says of a batch of histories, all that decoding a (perturbed) thought needs.

    thought: of the reasoner. attention: (B, K, L) over items. vectors: (B, L, D) the history's items.
    newest: (B, d) the backbone's state at the end of what it read, before any latent token.
    past, past_mask: keys and values of what was read and a (B, P) mask of them; only `title` needs them.
    """

    thought: Thought
    attention: Tensor
    vectors: Tensor
    newest: Tensor
    past: Past | None
    past_mask: Tensor


class FactorizedModel(nn.Module):
    """Read histories with a language model and K factors (docs/method.md).

    Args:
        encoder: of the histories; holds the trunk.
        reasoner: the FLR head.
        decoder: thought to item space, or to titles.
        latent_tokens: N, how often the thought goes back through the trunk as a token.
    """

    token_length: Tensor
    decoder: Any
    """`CatalogDecoder` or `TitleDecoder`; whoever calls it knows which."""

    def __init__(
        self,
        encoder: ItemsEncoder | TextEncoder,
        reasoner: Reasoner,
        decoder: CatalogDecoder | TitleDecoder,
        latent_tokens: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.reasoner = reasoner
        self.decoder = decoder
        self.latent_tokens = latent_tokens
        width = encoder.trunk.width
        self.latent = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.latent.weight)
        table = encoder.trunk.lm.get_input_embeddings().weight.detach()
        self.register_buffer("token_length", table.norm(dim=-1).mean(), persistent=False)

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        parts = (part.parameter_groups() for part in (self.encoder, self.reasoner, self.decoder))
        return join_groups(*parts, {"reasoner": list(self.latent.parameters())})

    def read(self, batch: HistoryBatch) -> Reading:
        """Think about a batch of histories."""
        return self.think(self.encode(batch), batch)

    def think(self, encoded: EncodedHistory, batch: HistoryBatch) -> Reading:
        """Go on from the backbone's states: reason, and send the thought through the trunk N times.

        The last thought of the `title` decoder is not sent: it goes through the trunk together with the title.
        """
        age = encoded.slot.amax(1, keepdim=True) - encoded.slot
        start = encoded.states[:, -1] if encoded.last is None else encoded.last
        thought = self.reasoner(start, encoded.states, encoded.mask, age)
        mask, past = encoded.mask if encoded.past_mask is None else encoded.past_mask, encoded.past
        for _ in range(self.latent_tokens - isinstance(self.decoder, TitleDecoder)):
            mask = F.pad(mask, (0, 1), value=1)
            state, past = self.encoder.trunk(self.latent_token(thought.thought)[:, None], mask, past, keep=True)
            thought = self.reasoner(state[:, -1] + thought.thought, encoded.states, encoded.mask, age)
        attention = self._per_item(thought.attention, encoded, batch.mask)
        return Reading(thought, attention, batch.vectors, start, past, mask)

    def queries(self, reading: Reading) -> Tensor:
        """Return the (B, K, D) queries in item space; the `title` decoder has none and gives (B, K, 0)."""
        if isinstance(self.decoder, TitleDecoder):
            return reading.thought.gates.new_zeros(*reading.thought.gates.shape, 0)
        queries: Tensor = self.decoder(reading.thought, reading.attention, reading.vectors, reading.newest)
        return queries

    def end_prompt(self, reading: Reading) -> tuple[Tensor, Tensor, Past]:
        """Send the last thought: return the (B, d) state to write from, the (B, P + 1) mask, and keys and values."""
        mask = F.pad(reading.past_mask, (0, 1), value=1)
        token = self.latent_token(reading.thought.thought)[:, None]
        states, past = self.encoder.trunk(token, mask, reading.past, keep=True)
        return states[:, -1], mask, past

    def write(self, reading: Reading, thoughts: Tensor, tokens: Tensor) -> Tensor:
        """Run latent tokens and what follows; all thoughts of a user share the prompt's keys and values.

        Args:
            reading: of B users.
            thoughts: (B, G, d), G a user, each followed by the same tokens.
            tokens: (B, T - 1) of the titles, without the last one.

        Returns:
            (B, G, T, d) states, from each of which the next token is predicted.
        """
        n_users, group, width = thoughts.shape
        title = self.encoder.trunk.embed(tokens)[:, None].expand(-1, group, -1, -1)
        embeddings = torch.cat([self.latent_token(thoughts)[:, :, None], title], dim=2)  # (B, G, T, d)
        length = embeddings.shape[2]
        depth = torch.arange(length, device=tokens.device).repeat(group)
        member = torch.arange(group, device=tokens.device).repeat_interleave(length)
        own = (member[:, None] == member) & (depth[:, None] >= depth)
        prompt = (reading.past_mask > 0)[:, None].expand(-1, len(depth), -1)
        mask = torch.cat([prompt, own[None].expand(n_users, -1, -1)], dim=2)
        positions = reading.past_mask.sum(1, keepdim=True) + depth
        assert reading.past is not None
        states, _ = self.encoder.trunk.extend(embeddings.flatten(1, 2), positions, mask, reading.past)
        return states.view(n_users, group, length, width)

    def output_embeddings(self) -> Tensor:
        """Return the (V, d) embeddings whose products with a state are the logits of the next token."""
        return self._head() * self.decoder.log_scale.exp()  # type: ignore[no-any-return]

    def _head(self) -> Tensor:
        own = self.decoder.own_head
        return self.encoder.trunk.lm.get_input_embeddings().weight if own is None else own  # type: ignore[no-any-return]

    def title_likelihood(
        self, reading: Reading, thoughts: Tensor, titles: TitleBatch, *, whole_vocabulary: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return (B, G) log-likelihoods of each user's title after G thoughts (B, G, d), and (B,) their choices."""
        states = self.write(reading, thoughts, titles.tokens[:, :-1])
        return self.decoder(  # type: ignore[no-any-return]
            states, self._head(), titles, whole_vocabulary=whole_vocabulary
        )

    def forward(self, batch: HistoryBatch) -> Tensor:
        """Return the (B, K, D) queries of a batch of histories."""
        return self.queries(self.read(batch))

    def encode(self, batch: HistoryBatch) -> EncodedHistory:
        """Run the backbone over a batch of histories."""
        keep = self.latent_tokens > 0
        if isinstance(self.encoder, TextEncoder):
            return self.encoder(  # type: ignore[no-any-return]
                batch.input_ids, batch.token_mask, batch.token_slot, keep=keep
            )
        return self.encoder(batch.vectors, batch.mask, keep=keep)  # type: ignore[no-any-return]

    def latent_token(self, thought: Tensor) -> Tensor:
        """Map a (..., d) thought to a (..., d) input embedding of the length that the backbone's own have."""
        return F.normalize(self.latent(thought), dim=-1) * self.token_length

    def _per_item(self, attention: Tensor, encoded: EncodedHistory, mask: Tensor) -> Tensor:
        """Sum attention over positions (B, K, S) per item: (B, K, L)."""
        if isinstance(self.encoder, ItemsEncoder):
            return attention
        columns = torch.arange(mask.shape[1], device=mask.device)
        belongs = (encoded.slot[..., None] == columns).to(attention.dtype) * encoded.mask[..., None]
        return attention @ belongs


def build_model(
    config: ModelConfig, trunk: Trunk, tokenizer: TitleTokenizer | None = None, head: Tensor | None = None
) -> FactorizedModel:
    """Build the untrained model of a configuration around a trunk.

    Args:
        config: shape.
        trunk: of the histories.
        tokenizer: of the prompt; only `title` needs it.
        head: (V, d) output embeddings where they are not the input embeddings; only `title` needs them.
    """
    writes = config.decoder == "title"
    prompt = Prompt(*tokenizer.around(config.prompt)) if writes and tokenizer is not None else None
    encoder = (
        ItemsEncoder(trunk, config.embedding_size, prompt) if config.encoding == "items" else TextEncoder(trunk, prompt)
    )
    reasoner = Reasoner(trunk.width, config.n_factors, config.refine_steps, dropout=config.dropout, residual=not writes)
    if writes:
        decoder = TitleDecoder(head, scale=TRUNCATED_SCALE if config.layers else 1.0)
        return FactorizedModel(encoder, reasoner, decoder, config.latent_tokens)
    items = CatalogDecoder(trunk.width, config.embedding_size, config.n_factors, dropout=config.dropout)
    return FactorizedModel(encoder, reasoner, items, config.latent_tokens)
