"""What `auto` means: how much of the backbone learns, and how often the rows are seen; and how a trunk is tuned."""

from __future__ import annotations

import logging

from torch import nn

from flr_model.assets.wheels import ASSETS
from flr_model.cache import cache_folder
from flr_model.config import BACKBONE, TrainConfig
from flr_model.data.histories import HistoryRows
from flr_model.errors import ConfigError, MissingExtraError
from flr_model.nn.backbone import Trunk
from flr_model.nn.device import best_device, multiplies_bf16
from flr_model.nn.history_encoders import HistoryEncoder
from flr_model.nn.model import FactorizedModel
from flr_model.nn.title_writer import TitleWriter

logger = logging.getLogger(__name__)

LORA_ROWS = 1_000_000
"""Below this many rows a trunk tuned on single rows learned them by heart in our measurements (docs/results.md)."""

DENSE_ROWS = 10
"""From so many training rows an item on, sequences teach the trunk something (docs/results.md)."""

SENTENCE_ENCODER = "minilm"
"""Reads titles beside the backbone unless something else is asked for."""

MANY_ROWS = 20
"""Users with more rows than this on average are learned by heart in a second pass (docs/results.md)."""

PASSES, FEW_PASSES = 3, 1


def choose_tuning(asked: str, n_rows: int, n_items: int, encoder: HistoryEncoder | type[HistoryEncoder]) -> str:
    """Resolve ``auto`` by the network and the training rows (docs/method.md, "What of the backbone learns").

    Args:
        asked: the setting.
        n_rows: to train on.
        n_items: that these rows hold; others of the catalogue teach nothing.
        encoder: of histories.

    Raises:
        ConfigError: if ``sequences`` is asked for and the network does not read items.
    """
    if asked == "sequences" and not encoder.item_positions:
        raise ConfigError("--tuning sequences needs --encoding items")
    if asked != "auto":
        return asked
    if encoder.item_positions and n_rows >= DENSE_ROWS * n_items:
        return "sequences"
    return "frozen" if n_rows < LORA_ROWS else "lora"


def choose_epochs(asked: int | None, tuning: str, rows: HistoryRows) -> int:
    """Resolve None, ``auto``, by what learned before and the rows a user has (docs/method.md, "How long").

    Args:
        asked: passes, or None.
        tuning: as `choose_tuning` resolved it.
        rows: to train on.
    """
    if asked is not None:
        return asked
    many = len(rows) > MANY_ROWS * len(set(rows.user_id.tolist()))
    return FEW_PASSES if many or tuning == "sequences" else PASSES


def choose_readers(asked: str | None) -> str:
    """Resolve None, ``auto``: a sentence encoder helps, but only ``flr fetch`` brings one."""
    if asked is not None:
        return asked
    if ASSETS[SENTENCE_ENCODER].folder(cache_folder()).exists():  # a damaged one is refused when it is loaded
        return f"{BACKBONE},{SENTENCE_ENCODER}"
    logger.warning(
        "titles are read by the backbone alone, since %s was not fetched: `flr fetch %s` before training makes better "
        "recommendations; `--item-readers %s` accepts it",
        SENTENCE_ENCODER,
        SENTENCE_ENCODER,
        BACKBONE,
    )
    return BACKBONE


def tune(model: FactorizedModel, tuning: str, lora_rank: int) -> None:
    """Freeze, extend or free the trunk of a model, in place.

    With a frozen trunk the projection into it is frozen too: the states of a history then need no gradient. That is
    also how `sequences` starts, and ends.

    Raises:
        MissingExtraError: if LoRA is asked for and peft is not installed.
    """
    trunk = model.encoder.trunk
    if tuning == "full":
        return
    trunk.lm.requires_grad_(False)
    if tuning in ("frozen", "sequences"):
        for parameter in model.encoder.parameter_groups().get("projection", ()):
            parameter.requires_grad_(False)
        return
    _add_lora(trunk, lora_rank)


def tune_writer(writer: TitleWriter, train: TrainConfig) -> set[nn.Parameter]:
    """Freeze the language model that writes, in place, until its turn comes; return what is to learn of it then.

    Raises:
        MissingExtraError: if LoRA is asked for and peft is not installed.
    """
    trunk = writer.encoder.trunk
    if train.writer_tuning == "lora":
        trunk.lm.requires_grad_(False)
        _add_lora(trunk, train.lora_rank)
    trunk.bf16 = trunk_in_bf16(train.writer_tuning, train.precision)
    learners = {parameter for parameter in writer.parameters() if parameter.requires_grad}
    writer.requires_grad_(False)
    return learners


def _add_lora(trunk: Trunk, rank: int) -> None:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise MissingExtraError("peft", "train") from None
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.05, target_modules="all-linear")
    trunk.lm = get_peft_model(trunk.lm, config)


def trunk_in_bf16(tuning: str, precision: str) -> bool:
    """Say whether a trunk multiplies in bfloat16 while all else is fp32: on a CPU, where that is faster, if it learns.

    On a GPU the trainer decides for the whole model.
    """
    device = best_device()
    faster = precision == "bf16" or (precision == "auto" and multiplies_bf16(device))
    return faster and device.type == "cpu" and tuning in ("lora", "full")


def merge(trunk: Trunk, tuning: str) -> None:
    """Fold low-rank additions into a trunk's weights, in place."""
    if tuning == "lora":
        trunk.lm = trunk.lm.merge_and_unload()
