"""From a configuration to an untrained network; the one place of this folder that asks for encoding and decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from flr_model.config import ModelConfig
from flr_model.errors import ConfigError
from flr_model.nn.backbone import Trunk
from flr_model.nn.catalog_decoder import CatalogDecoder
from flr_model.nn.catalog_head import CatalogHead
from flr_model.nn.evidence_head import EvidenceHead
from flr_model.nn.head import Head
from flr_model.nn.history_encoders import HistoryEncoder, ItemsEncoder, Prompt, TextEncoder
from flr_model.nn.model import FactorizedModel
from flr_model.nn.reasoner import Reasoner
from flr_model.nn.recency import Recency
from flr_model.nn.title_decoder import TitleDecoder
from flr_model.nn.title_head import TitleHead
from flr_model.titles.tokens import TitleTokenizer

TRUNCATED_SCALE = 0.1
"""Of a truncated backbone's logits before training."""


class Network(NamedTuple):
    """What learns of a configuration: from histories to thoughts, and what becomes of them."""

    model: FactorizedModel
    head: Head


def build_model(
    config: ModelConfig,
    trunk: Trunk,
    tokenizer: TitleTokenizer,
    *,
    n_lags: int,
    output_embeddings: Callable[[], Tensor | None],
    encoder: HistoryEncoder | None = None,
) -> Network:
    """Build the untrained network of a configuration around a trunk.

    Args:
        config: shape.
        trunk: of the histories.
        tokenizer: of the prompt.
        n_lags: buckets of lags that the evidence weighs.
        output_embeddings: gives them (V, d) where they are not the input embeddings, else None; only `title` asks.
        encoder: of the histories, to share with another network of the same encoding; None makes one.

    Raises:
        ConfigError: if titles are to be written and the backbone names no end token.
    """
    writes = config.decoder == "title"
    prompt = Prompt(*tokenizer.around(config.title.prompt)) if writes else None
    if encoder is None and config.encoding == "items":
        encoder = ItemsEncoder(trunk, config.embedding_size, prompt)
    elif encoder is None:
        encoder = TextEncoder(trunk, config.max_tokens, prompt)
    reasoner = Reasoner(
        trunk.width,
        config.embedding_size,
        config.chosen_factors,
        config.refine_steps,
        Recency(config.chosen_factors, config.max_history, n_lags),
        dropout=config.dropout,
        residual=not writes,
    )
    # The last thought of a head that writes goes through the trunk together with the title.
    model = FactorizedModel(encoder, reasoner, config.latent_tokens - 1 if writes else config.latent_tokens)
    items = CatalogDecoder(trunk.width, config.embedding_size, config.chosen_factors, dropout=config.dropout)
    evidence = EvidenceHead(config.chosen_factors, n_lags, max_history=config.max_history)
    catalog = CatalogHead(items, evidence)
    if writes:
        decoder = TitleDecoder(
            trunk.width, config.embedding_size, output_embeddings(), scale=TRUNCATED_SCALE if config.layers else 1.0
        )
        whole = config.title.title_softmax == "vocabulary"
        end = end_token(trunk.lm.config)
        return Network(model, TitleHead(decoder, catalog, end_token=end, whole_vocabulary=whole))
    return Network(model, catalog)


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
