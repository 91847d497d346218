"""From a configuration to an untrained network; the one place of this folder that asks for encoding and decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flr_model.config import ModelConfig
from flr_model.errors import ConfigError
from flr_model.nn.backbone import Trunk
from flr_model.nn.catalog_decoder import CatalogDecoder
from flr_model.nn.catalog_head import CatalogHead
from flr_model.nn.evidence_head import EvidenceHead
from flr_model.nn.head import Head
from flr_model.nn.history_encoders import HistoryEncoder, ItemsEncoder, TextEncoder
from flr_model.nn.model import FactorizedModel
from flr_model.nn.reasoner import Reasoner
from flr_model.nn.recency import Recency
from flr_model.nn.title_head import TitleHead
from flr_model.nn.title_writer import Prompt, TitleWriter
from flr_model.titles.tokens import TitleTokenizer

TRUNCATED_SCALE = 0.1
"""Of a truncated language model's logits before training."""


class Network(NamedTuple):
    """What learns of a configuration: from histories to thoughts, and what becomes of them."""

    model: FactorizedModel
    head: Head


class WritingModel(NamedTuple):
    """A language model that writes: its layers, and its (V, d) output embeddings where they are not the input's."""

    trunk: Trunk
    output_embeddings: Tensor | None


def build_model(
    config: ModelConfig,
    trunk: Trunk,
    tokenizer: TitleTokenizer,
    *,
    n_lags: int,
    unordered: bool = False,
    writing_model: Callable[[], WritingModel],
    encoder: HistoryEncoder | None = None,
) -> Network:
    """Build the untrained network of a configuration around a trunk.

    Args:
        config: shape.
        trunk: of the histories.
        tokenizer: of the prompt.
        n_lags: buckets of lags that the evidence weighs.
        unordered: interactions of one moment have no order.
        writing_model: gives the language model that writes; only `title` asks.
        encoder: of the histories, to share with another network of the same encoding; None makes one.

    Raises:
        ConfigError: if titles are to be written and the backbone names no end token.
    """
    reasoner = Reasoner(
        trunk.width,
        config.embedding_size,
        config.chosen_factors,
        config.refine_steps,
        Recency(config.chosen_factors, config.max_history, n_lags, unordered=unordered),
        dropout=config.dropout,
    )
    model = FactorizedModel(encoder or build_encoder(config, trunk), reasoner, config.latent_tokens)
    decoder = CatalogDecoder(trunk.width, config.embedding_size, config.chosen_factors, dropout=config.dropout)
    evidence = EvidenceHead(config.chosen_factors, n_lags, max_history=config.max_history)
    if config.decoder == "catalog":
        return Network(model, CatalogHead(decoder, evidence))
    with torch.random.fork_rng():  # so that all but the writer is what it would be without one
        writes = writing_model()
        writer = TitleWriter(
            build_encoder(config, writes.trunk),
            Prompt(*tokenizer.around(config.title.prompt)),
            config.embedding_size,
            writes.output_embeddings,
            scale=TRUNCATED_SCALE if config.title.writer_layers else 1.0,
            whole_vocabulary=config.title.title_softmax == "vocabulary",
        )
    return Network(model, TitleHead(decoder, evidence, writer, end_token=end_token(writes.trunk.lm.config)))


def build_encoder(config: ModelConfig, trunk: Trunk) -> HistoryEncoder:
    """Build what reads histories with a trunk."""
    if config.encoding == "items":
        return ItemsEncoder(trunk, config.embedding_size)
    return TextEncoder(trunk, config.max_tokens)


def end_token(lm_config: Any) -> int:
    """Return the token that ends a text of a language model; the first where there are several.

    Raises:
        ConfigError: if the model's configuration names none.
    """
    end = lm_config.eos_token_id
    end = end[0] if isinstance(end, (list, tuple)) else end
    if end is None:
        raise ConfigError("--decoder title needs a backbone whose config.json names an eos_token_id")
    return int(end)
