"""The causal language model: loading, truncating, saving, and its use as a trunk over embeddings.

Shapes: B batch, S positions, d width of the backbone.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, DynamicCache, PreTrainedModel
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from flr_model.assets.wheels import ASSETS, located
from flr_model.errors import ArtifactError, ConfigError, FlrError
from flr_model.nn.parameter_groups import Groups
from flr_model.replacing import share

logger = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
"""Where transformers keeps the weights of a model that is not very large."""

Past = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values (B, heads, P, width) of every layer for P positions."""

LENGTH_GROUPS = 4
"""Histories of a batch are read in so many groups of like length."""


@dataclass(frozen=True)
class Backbone:
    """A language model without its output layer, and the tokenizer both halves of flr use.

    Args:
        lm: the model.
        tokenizer_json: file of the `tokenizers` library, so that scoring without transformers tokenizes alike.
        weights: the file that this model was loaded from, all of it; None where it has changed since.
    """

    lm: PreTrainedModel
    tokenizer_json: Path
    weights: Path | None = None

    def save(self, folder: Path) -> None:
        """Write the weights, the configuration and tokenizer.json; unchanged weights take no new room on the disk."""
        if self.weights is None:
            self.lm.save_pretrained(folder)
        else:
            self.lm.config.save_pretrained(folder)
            share(self.weights, folder / WEIGHTS)
        shutil.copyfile(self.tokenizer_json, folder / "tokenizer.json")


def load_backbone(name: str, *, layers: int | None = None, what: str = "backbone") -> Backbone:
    """Load a language model and its tokenizer: a fetched asset, a folder or a Hugging Face id, in fp32.

    Args:
        name: what to load.
        layers: keep the first layers only; None keeps all.
        what: it is, for messages.

    Raises:
        ArtifactError: if the weights are not to be had here, with the command that fetches them.
        ConfigError: if the model has fewer layers than asked for.
    """
    place = located(name)
    lm, whole = _load(place, name, layers, what)
    with _loading(name, what):
        tokenizer_json = Path(cached_file(place, "tokenizer.json", local_files_only=True))
    weights = tokenizer_json.with_name(WEIGHTS)
    return Backbone(lm, tokenizer_json, weights if whole and weights.is_file() else None)


def load_lm(name: str, *, layers: int | None = None, what: str = "backbone") -> PreTrainedModel:
    """Load a language model alone; arguments and errors are those of `load_backbone`."""
    return _load(located(name), name, layers, what)[0]


def _load(place: str, name: str, layers: int | None, what: str) -> tuple[PreTrainedModel, bool]:
    """Return the language model at a place, and whether it has all its layers."""
    with _loading(name, what):
        config = AutoConfig.from_pretrained(place, local_files_only=True)
        whole = not _truncate(config, layers)
        lm = AutoModel.from_pretrained(place, config=config, dtype=torch.float32, local_files_only=True)
    lm.config.use_cache = False
    return lm, whole


def _truncate(config: Any, layers: int | None) -> bool:
    """Lower the number of layers, and cut the lists that hold a value per layer; say whether there was anything to do.

    Raises:
        ConfigError: if there are fewer.
    """
    depth = config.num_hidden_layers
    if layers is None or layers == depth:
        return False
    if layers > depth:
        raise ConfigError(f"--layers is {layers}, but the backbone has {depth}")
    for key, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == depth:
            setattr(config, key, value[:layers])
    config.num_hidden_layers = layers
    return True


class Trunk(nn.Module):
    """Runs the language model over embeddings with padding on the left, and goes on from its cached keys and values.

    Args:
        lm: the model.
    """

    def __init__(self, lm: PreTrainedModel) -> None:
        super().__init__()
        self.lm = lm
        self.bf16 = False
        """Whether the model multiplies in bfloat16; its states are fp32 all the same."""

    @property
    def width(self) -> int:
        """The width d of the states."""
        return int(self.lm.config.hidden_size)

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter, the low-rank additions of LoRA among them."""
        matrices = [parameter for parameter in self.parameters() if parameter.ndim > 1]
        vectors = [parameter for parameter in self.parameters() if parameter.ndim <= 1]
        return {"backbone": matrices, "backbone_vectors": vectors}

    def embed(self, input_ids: Tensor) -> Tensor:
        """Return the (B, S, d) input embeddings of tokens."""
        return self.lm.get_input_embeddings()(input_ids)  # type: ignore[no-any-return]

    def forward(
        self, embeddings: Tensor, mask: Tensor, past: Past | None = None, *, keep: bool = False
    ) -> tuple[Tensor, Past | None]:
        """Run positions after the cached ones.

        Args:
            embeddings: (B, S, d) of the new positions.
            mask: (B, P + S) 1 where a position is real, for the P cached and the S new ones.
            past: what an earlier call returned; it stays as it is and can be used again.
            keep: return keys and values for a later call.

        Returns:
            (B, S, d) states of the last layer, and the keys and values of all positions if kept.
        """
        cache = as_cache(past) if keep or past is not None else None
        output = self._run(
            embeddings,
            attention_mask=_causal_mask(mask, embeddings.shape[1], embeddings.dtype),
            position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, -embeddings.shape[1] :],
            past_key_values=cache,
            use_cache=cache is not None,
        )
        return output.last_hidden_state.float(), as_past(output.past_key_values) if keep else None

    def read_by_length(
        self, embeddings: Tensor, mask: Tensor, *, keep: bool, before: int = 0
    ) -> tuple[Tensor, Past | None]:
        """Run histories, those of like length together, so that hardly any padding is read.

        Args:
            embeddings: (B, S, d), padded on the left.
            mask: (B, S) 1 where a position is real.
            keep: return keys and values for a later call.
            before: positions in front of the padding, which are real in all histories.

        Returns:
            What a call on all at once returns, but for rounding; zero at padding that was not read.
        """
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if tracing or len(mask) < 2 * LENGTH_GROUPS:
            whole: tuple[Tensor, Past | None] = self(embeddings, mask, keep=keep)
            return whole
        length = mask.sum(1)
        order = length.argsort()
        width, states, past = mask.shape[1], [], []
        for group in order.chunk(LENGTH_GROUPS):
            left_out = width - max(int(length[group[-1]]), before + 1)
            columns = torch.cat([torch.arange(before), torch.arange(before + left_out, width)])
            read, kept = self(embeddings[group][:, columns], mask[group][:, columns], keep=keep)
            states.append(_padded(read, before, left_out))
            past.append([[_padded(part, before, left_out) for part in layer] for layer in kept or ()])
        back = order.argsort()
        layers = [zip(*layer, strict=True) for layer in zip(*past, strict=True)]
        together = tuple((torch.cat(keys)[back], torch.cat(values)[back]) for keys, values in layers)
        return torch.cat(states)[back], together if keep else None

    def extend(self, embeddings: Tensor, positions: Tensor, mask: Tensor, past: Past) -> tuple[Tensor, Past]:
        """Run positions after the cached ones, where each sees what the mask says.

        Args:
            embeddings: (B, S, d) of the new positions.
            positions: (B, S) for the position embedding.
            mask: (B, S, P + S) which of the P cached and S new positions are seen; at least itself.
            past: keys and values of the P positions; it stays as it is.

        Returns:
            (B, S, d) states of the last layer, and the keys and values of all positions.
        """
        output = self._run(
            embeddings,
            attention_mask=_additive(mask, embeddings.dtype)[:, None],
            position_ids=positions,
            past_key_values=as_cache(past),
            use_cache=True,
        )
        return output.last_hidden_state.float(), as_past(output.past_key_values)

    def _run(self, embeddings: Tensor, **inputs: Any) -> Any:
        with torch.autocast(embeddings.device.type, torch.bfloat16, enabled=self.bf16):
            return self.lm(inputs_embeds=embeddings, **inputs)


def load_output_embeddings(name: str) -> Tensor | None:
    """Return the (V, d) output embeddings of a model where they are not the input embeddings, else None.

    Raises:
        ArtifactError: as `load_backbone`.
    """
    place = located(name)
    with _loading(name):
        if AutoConfig.from_pretrained(place, local_files_only=True).tie_word_embeddings:
            return None
        lm = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, local_files_only=True)
    head: Tensor = lm.get_output_embeddings().weight.detach()
    return head


@contextmanager
def _loading(name: str, what: str = "backbone") -> Iterator[None]:
    """Turn whatever a library raises on a model that is missing, damaged or none into an error; silence its warnings.

    Raises:
        ArtifactError: instead.
    """
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    except (FlrError, MemoryError):
        raise
    except Exception as error:  # of all kinds, without a common base
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ArtifactError(
            f"cannot load the {what} {name!r}: {reason[0]}",
            hint=f"name a folder with a model, one of {', '.join(ASSETS)} (`flr fetch`), or a Hugging Face id that is "
            f"in its cache (`hf download {name}` brings it; flr itself uses no network)",
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)


def _padded(part: Tensor, before: int, n: int) -> Tensor:
    """Put ``n`` zeros behind the first positions of (..., S, width)."""
    zeros = part.new_zeros(*part.shape[:-2], n, part.shape[-1])
    return torch.cat([part[..., :before, :], zeros, part[..., before:, :]], dim=-2)


def as_past(cache: DynamicCache) -> Past:
    """Take keys and values out of what a language model returned."""
    return tuple((layer.keys, layer.values) for layer in cache.layers)


def as_cache(past: Past | None) -> DynamicCache:
    """Put keys and values into the form that a language model goes on from; they stay as they are."""
    cache = DynamicCache()
    for number, (keys, values) in enumerate(past or ()):
        cache.update(keys, values, number)
    return cache


def _causal_mask(mask: Tensor, n_new: int, dtype: torch.dtype) -> Tensor:
    """Return the (B, 1, n_new, P + n_new) additive mask: earlier and real positions only, and always oneself.

    Built here, not by transformers, because it is the same in every version and traces into ONNX.
    """
    total = mask.shape[1]
    position = torch.arange(total, device=mask.device)
    query = position[total - n_new :, None]
    earlier = position[None, :] <= query
    itself = position[None, :] == query
    allowed = (earlier[None] & (mask[:, None, :] > 0)) | itself[None]
    return _additive(allowed, dtype)[:, None]


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    zeros = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return zeros.masked_fill(~allowed, torch.finfo(dtype).min)
