"""What reads an item's text: the backbone in a prompt, or a sentence encoder, each with its own tokenizer.

Shapes: n titles of a batch, S tokens, R readings of a title, w width of the reader's states.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from flr_model.arrays import Floats, Ints
from flr_model.config import BACKBONE, ModelConfig
from flr_model.errors import ConfigError
from flr_model.nn.backbone import Backbone, Past, as_cache, as_past, load_backbone
from flr_model.nn.pooling import Pooling, pool
from flr_model.progress import SILENT, Progress
from flr_model.titles.tokens import TitleTokenizer, reader_tokenizer

LEXICAL_DEPTH = 0.27
"""Share of the layers after which the title's own states are read; deeper ones say less about the wording."""

TOKENS_PER_BATCH = 1024
"""Places of one batch: few enough that the states between two layers stay in the cache of the processor."""


class Part(NamedTuple):
    """What a reading contributes to an item vector, beside the other readings.

    share: of the D directions. length: of its part of the vector. Both count relative to the other readings'.
    """

    share: float
    length: float


class ItemReader(nn.Module, ABC):
    """Read titles with a transformer.

    Args:
        name: as `ModelConfig.item_readers` has it.
        backbone: the transformer with the file of its tokenizer.
        tokenizer: of titles, with what stands around them.
    """

    parts: ClassVar[tuple[Part, ...]]
    """One for each of the R readings."""

    def __init__(self, name: str, backbone: Backbone, tokenizer: TitleTokenizer) -> None:
        super().__init__()
        self.name = name
        self.lm = backbone.lm
        self.tokenizer = tokenizer
        self._backbone = backbone

    @property
    def width(self) -> int:
        """The width w of the states."""
        return int(self.lm.config.hidden_size)

    @abstractmethod
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the (n, R, w) readings of titles (n, S), padded on the right."""

    @torch.no_grad()
    def read_titles(
        self,
        titles: Sequence[str],
        *,
        dtype: torch.dtype = torch.float32,
        keep: Callable[[Ints, Floats], None],
        progress: Progress = SILENT,
    ) -> None:
        """Read titles in batches of like length.

        Args:
            titles: in any order.
            dtype: of the matrix products; what lies between them stays in fp32.
            keep: is given the places (b,) of the titles of each batch and their (b, R, w) readings.
            progress: counts titles.
        """
        device = self.lm.device
        with self._multiplying(dtype), progress.task(len(titles), f"titles ({self.name})") as task:
            read = self.batch_reader()
            for which, input_ids, mask in self.tokenizer.batches(titles, TOKENS_PER_BATCH):
                states = read(torch.from_numpy(input_ids).to(device), torch.from_numpy(mask).to(device))
                keep(which, states.float().cpu().numpy())
                task.advance(len(which))

    def batch_reader(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return what reads many batches as `forward` does; a subclass may prepare what they share."""
        return self

    @contextmanager
    def _multiplying(self, dtype: torch.dtype) -> Iterator[None]:
        """Do the matrix products in another precision, with a copy of the weights."""
        whole = self.lm.eval()
        if dtype != torch.float32:
            self.lm = copy.deepcopy(whole)
            for layer in self.lm.modules():
                if isinstance(layer, nn.Linear):
                    layer.to(dtype)
        try:
            with torch.autocast(whole.device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False):
                yield
        finally:
            self.lm = whole

    def fingerprint(self, dtype: torch.dtype) -> str:
        """Return what tells readings of this reader from those of any other, and of any other precision."""
        how = (self._how(), self.tokenizer.fingerprint, self.tokenizer.title_tokens, self.tokenizer.prompt, dtype)
        digest = hashlib.sha256(repr(how).encode())
        for name, weight in self.lm.state_dict().items():
            digest.update(f"{name}\0{weight.dtype}\0".encode())
            digest.update(weight.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write everything that `load` needs into a folder."""
        self._backbone.save(folder)

    @property
    def tokenizer_json(self) -> Path:
        """The file of the tokenizer."""
        return self._backbone.tokenizer_json

    @abstractmethod
    def _how(self) -> str:
        """Name what of the reading is not in weights and tokenizer."""


class BackboneReader(ItemReader):
    """Read a title in a prompt with a causal language model: its wording, and what the model would say of it.

    Args:
        name: as `ModelConfig.item_readers` has it.
        backbone: the language model.
        tokenizer: with the prompt.
    """

    parts = (Part(3, 0.8), Part(1, 0.6))

    def __init__(self, name: str, backbone: Backbone, tokenizer: TitleTokenizer) -> None:
        super().__init__(name, backbone, tokenizer)
        self.lexical_layer = max(1, round(LEXICAL_DEPTH * int(self.lm.config.num_hidden_layers)))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the (n, 2, w) readings of titles in their prompt (n, S).

        They are the mean over the title's tokens of an early layer, and the last layer's state of the last token, from
        which the model would go on writing.
        """
        states = self.lm(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False, output_hidden_states=True
        ).hidden_states
        return self._readings(states, attention_mask, len(self.tokenizer.prefix))

    def batch_reader(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return what reads many batches; the prompt before the title is read once."""
        prefix = torch.from_numpy(self.tokenizer.prefix).to(self.lm.device)[None]
        if not prefix.shape[1]:
            return self
        past = as_past(self.lm(input_ids=prefix, use_cache=True).past_key_values)
        return functools.partial(self._read_behind, past)

    def _read_behind(self, past: Past, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Read titles whose prompt begins with the places of ``past`` (1, heads, P, width)."""
        n, before = len(input_ids), past[0][0].shape[2]
        states = self.lm(
            input_ids=input_ids[:, before:],
            attention_mask=attention_mask,
            past_key_values=as_cache(tuple((k.expand(n, -1, -1, -1), v.expand(n, -1, -1, -1)) for k, v in past)),
            use_cache=True,
            output_hidden_states=True,
        ).hidden_states
        return self._readings(states, attention_mask[:, before:], 0)

    def _readings(self, states: Sequence[Tensor], mask: Tensor, before: int) -> Tensor:
        """Pool the states (n, S, w) of every layer; ``before`` places of the prompt stand in front of the title."""
        place = torch.arange(mask.shape[1], device=mask.device)
        title = (place >= before) & (place < mask.sum(1, keepdim=True) - len(self.tokenizer.suffix))
        wording = pool(states[self.lexical_layer], title, "mean")
        return torch.stack([wording, pool(states[-1], mask > 0, "lasttoken")], dim=1)

    def _how(self) -> str:
        return f"backbone {self.lexical_layer}"


class SentenceReader(ItemReader):
    """Read a title with a sentence encoder.

    Args:
        name: as `ModelConfig.item_readers` has it.
        backbone: the encoder.
        tokenizer: with the encoder's special tokens.
        pooling: from the states of tokens to one of the title.
    """

    parts = (Part(3, 1.0),)

    def __init__(self, name: str, backbone: Backbone, tokenizer: TitleTokenizer, pooling: Pooling) -> None:
        super().__init__(name, backbone, tokenizer)
        self.pooling = pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the (n, 1, w) readings of titles with their special tokens (n, S)."""
        states = self.lm(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return pool(states, attention_mask > 0, self.pooling.mode)[:, None]

    def save(self, folder: Path) -> None:
        """Write also the pooling, as sentence-transformers reads it."""
        super().save(folder)
        self.pooling.write(folder)

    def _how(self) -> str:
        return f"sentence {self.pooling.mode}"


def load_reader(name: str, place: str, config: ModelConfig) -> ItemReader:
    """Load what reads titles.

    Args:
        name: as `ModelConfig.item_readers` has it.
        place: where it lies: name of a fetched asset, folder, or Hugging Face id.
        config: tells how titles are cut and prompted.

    Raises:
        ArtifactError: if it is not to be had here.
        ConfigError: if it cannot read what the configuration asks for.
    """
    if name == BACKBONE:
        backbone = load_backbone(place, layers=config.item_layers)
        return BackboneReader(name, backbone, reader_tokenizer(backbone.tokenizer_json, name, config))
    backbone = load_backbone(place, what="sentence encoder")
    if getattr(backbone.lm, "pooler", None) is not None:
        backbone.lm.pooler = None  # of another task; without weights in most checkpoints
    tokenizer = reader_tokenizer(backbone.tokenizer_json, name, config)
    _check_length(backbone.lm.config, tokenizer, name)
    return SentenceReader(name, backbone, tokenizer, Pooling.read(place))


def _check_length(lm_config: Any, tokenizer: TitleTokenizer, name: str) -> None:
    room = getattr(lm_config, "max_position_embeddings", None)
    around = len(tokenizer.prefix) + len(tokenizer.suffix)
    if room is not None and tokenizer.title_tokens + around > room:
        raise ConfigError(f"--title-tokens is {tokenizer.title_tokens}, but {name} reads at most {room - around}")
