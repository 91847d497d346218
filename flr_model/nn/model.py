"""The network from a history to a thought: history encoder, reasoner, latent tokens.

Shapes: B batch, L items of a history, S positions read, K factors, d width of the backbone, D width of item vectors.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from flr_model.nn.history_encoders import EncodedHistory, HistoryBatch, HistoryEncoder
from flr_model.nn.parameter_groups import Groups, join_groups
from flr_model.nn.reasoner import History, Reasoner, Thought


class Reading(NamedTuple):
    """What the model makes of a batch of histories: all that a head needs, for the thought or for a perturbed one.

    thought: of the reasoner. history: what it read. last: (B, d) the backbone's state at the end of what it read,
    before any latent token. start: (B, d) what the last thought began with. batch: what the backbone read, for a head
    that reads it with a language model of its own.
    """

    thought: Thought
    history: History
    last: Tensor
    start: Tensor
    batch: HistoryBatch


class FactorizedModel(nn.Module):
    """Read histories with a language model and K factors (docs/method.md).

    Args:
        encoder: of the histories; holds the trunk.
        reasoner: K factors that refine the thought.
        latent_tokens: how often the thought goes back through the trunk as a token before a head takes it.
    """

    token_norm: Tensor

    def __init__(self, encoder: HistoryEncoder, reasoner: Reasoner, latent_tokens: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.reasoner = reasoner
        self.latent_tokens = latent_tokens
        width = encoder.trunk.width
        self.latent = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.latent.weight)
        table = encoder.trunk.lm.get_input_embeddings().weight.detach()
        self.register_buffer("token_norm", table.norm(dim=-1).mean(), persistent=False)

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        own: Groups = {"reasoner": list(self.latent.parameters())}
        return join_groups(self.encoder.parameter_groups(), self.reasoner.parameter_groups(), own)

    def read(self, batch: HistoryBatch) -> Reading:
        """Think about a batch of histories."""
        return self.think(self.encode(batch), batch)

    def encode(self, batch: HistoryBatch) -> EncodedHistory:
        """Run the backbone over a batch of histories, and keep keys and values for what follows them."""
        return self.encoder(batch, keep=self.latent_tokens > 0)  # type: ignore[no-any-return]

    def think(self, encoded: EncodedHistory, batch: HistoryBatch) -> Reading:
        """Go on from the backbone's states: reason, and send the thought through the trunk as latent tokens."""
        last = encoded.states[:, -1]
        history = History(self.encoder.states_per_item(encoded, batch.mask), batch.vectors, batch.mask, batch.lag)
        start = last
        thought = self.reasoner(start, history)
        mask, past = encoded.mask, encoded.past
        for _ in range(self.latent_tokens):
            mask = F.pad(mask, (0, 1), value=1)
            state, past = self.encoder.trunk(self.latent_token(thought.thought)[:, None], mask, past, keep=True)
            start = state[:, -1] + thought.thought
            thought = self.reasoner(start, history)
        return Reading(thought, history, last, start, batch)

    def reconsider(self, reading: Reading, thought: Tensor) -> Reading:
        """Return a reading whose last thought is another one, (B, d); all before it is shared."""
        return reading._replace(thought=self.reasoner.conclude(thought, reading.thought.read, reading.history))

    def latent_token(self, thought: Tensor) -> Tensor:
        """Map a (..., d) thought to a (..., d) input embedding of the mean norm of the backbone's own."""
        return F.normalize(self.latent(thought), dim=-1) * self.token_norm
