"""Everything between a dataset folder and the training loop: rows, backbone, item vectors, untrained model."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from flr_model.artifacts import reading
from flr_model.cache import cache_folder
from flr_model.config import ModelConfig, TrainConfig
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows
from flr_model.errors import ArtifactError, ConfigError, DataError, pluralize
from flr_model.nn.backbone import Backbone, Trunk, best_device, load_backbone, load_output_embeddings
from flr_model.nn.build import build_model
from flr_model.nn.item_encoder import ItemEncoder
from flr_model.nn.recommender import TrainableRecommender
from flr_model.nn.run import build_item_encoder, title_tokenizer
from flr_model.progress import SILENT, Progress
from flr_model.ranking.pair_events import PairEvents
from flr_model.replacing import temporary
from flr_model.titles.tokens import TitleTokenizer
from flr_model.training.tuning import choose_epochs, choose_tuning, tune

logger = logging.getLogger(__name__)


@dataclass
class Setup:
    """What training starts from.

    Args:
        dataset: opened.
        rows: to train on.
        valid: to validate with; None when they are trained on.
        backbone: of the trunk.
        item_backbone: of the item vectors.
        item_encoder: fitted to the catalogue.
        recommender: untrained, its trunk frozen, extended or free.
        tuning: sequences, frozen, lora or full.
        epochs: passes over the rows.
    """

    dataset: Dataset
    rows: HistoryRows
    valid: HistoryRows | None
    backbone: Backbone
    item_backbone: Backbone
    item_encoder: ItemEncoder
    recommender: TrainableRecommender
    tuning: str
    epochs: int

    def with_factors(self, n_factors: int, train: TrainConfig) -> TrainableRecommender:
        """Return an untrained recommender with another K; it shares the trunk, the item vectors and the counts.

        Args:
            n_factors: K.
            train: settings of the training.
        """
        present = self.recommender
        model = replace(present.config, n_factors=n_factors)
        events, unit = present.head.evidence.events, present.items.unit_vectors[:-1].cpu()
        network = build_model(
            model,
            present.model.encoder.trunk,
            present.tokenizer,
            n_lags=len(events.lag_bounds) + 1,
            output_embeddings=lambda: load_output_embeddings(model.backbone),
            encoder=present.model.encoder,
        )
        network.model.reasoner.fit(unit, seed=train.seed)
        network.head.attach(present.catalog, present.tokenizer, events, train)
        return TrainableRecommender(model, present.catalog, network, unit, present.tokenizer)


def set_up(
    data: Path, model: ModelConfig, train: TrainConfig, *, hold_out: bool = True, progress: Progress = SILENT
) -> Setup:
    """Open the dataset, load the backbone, make the item vectors and build the untrained model.

    Args:
        data: dataset folder.
        model: shape.
        train: of which the tuning and the epochs matter here.
        hold_out: keep the validation rows out of training.
        progress: is told of titles.

    Raises:
        ArtifactError: if the dataset or the backbone cannot be opened.
        ConfigError: if the shape does not fit the backbone.
        DataError: if there are no rows to train on or to validate with.
    """
    dataset = Dataset.open(data)
    rows, valid = _rows(dataset, hold_out=hold_out)
    events = PairEvents.count(rows, len(dataset.catalog))
    backbone, item_backbone = _backbones(model)
    tokenizer = title_tokenizer(backbone, model)
    network = build_model(
        model,
        Trunk(backbone.lm),
        tokenizer,
        n_lags=len(events.lag_bounds) + 1,
        output_embeddings=lambda: load_output_embeddings(model.backbone),
    )
    encoder = network.model.encoder
    tuning = choose_tuning(train.tuning, len(rows), len(dataset.catalog), encoder, network.head)
    item_encoder = build_item_encoder(item_backbone, tokenizer, model)
    titles = dataset.catalog.titles.tolist()
    unit = _fit_item_encoder(item_encoder, titles, tokenizer, progress)
    encoder.fit(unit, mean_embeddings(encoder.trunk, titles, tokenizer))
    network.model.reasoner.fit(unit, seed=train.seed)
    tune(network.model, tuning, train.lora_rank)
    network.head.attach(dataset.catalog, tokenizer, events, train)
    return Setup(
        dataset=dataset,
        rows=rows,
        valid=valid,
        backbone=backbone,
        item_backbone=item_backbone,
        item_encoder=item_encoder,
        recommender=TrainableRecommender(model, dataset.catalog, network, unit, tokenizer),
        tuning=tuning,
        epochs=choose_epochs(train.epochs, rows),
    )


def _backbones(model: ModelConfig) -> tuple[Backbone, Backbone]:
    """Load the language models that read histories and titles."""
    backbone = load_backbone(model.backbone, layers=model.layers)
    width = int(backbone.lm.config.hidden_size)
    if model.embedding_size > width:
        raise ConfigError(f"--embedding-size is {model.embedding_size}, above the backbone's width {width}")
    return backbone, load_backbone(model.backbone, layers=model.item_layers)


def _fit_item_encoder(
    item_encoder: ItemEncoder, titles: list[str], tokenizer: TitleTokenizer, progress: Progress
) -> torch.Tensor:
    """Fit an item encoder to a catalogue's titles and return their (M, D) vectors before the learned scale."""
    if n_cut := tokenizer.n_cut(titles):
        logger.warning(
            "%s longer than %d tokens, whose rest is not read (--title-tokens)",
            pluralize(n_cut, "title"),
            tokenizer.title_tokens,
        )
    states = title_states(item_encoder, titles, tokenizer, progress)
    item_encoder.fit(states)
    return item_encoder.whiten(torch.from_numpy(states)).detach()


def _rows(dataset: Dataset, *, hold_out: bool) -> tuple[HistoryRows, HistoryRows | None]:
    rows, valid = dataset.rows("train"), dataset.rows("valid")
    if not len(rows) or (hold_out and not len(valid)):
        raise DataError(
            f"{dataset.folder} has no rows to train on or to validate with", hint="prepare it with more interactions"
        )
    return (rows, valid) if hold_out else (HistoryRows.concatenate([rows, valid]), None)


def title_states(
    encoder: ItemEncoder, titles: list[str], tokenizer: TitleTokenizer, progress: Progress = SILENT
) -> npt.NDArray[np.float32]:
    """Return the (M, 2, d) readings of titles, from the cache when this backbone has read these titles before."""
    digest = hashlib.sha256(f"{tokenizer.title_tokens}\0{tokenizer.prompt}\0{encoder.lexical_layer}\0".encode())
    for name, weight in encoder.lm.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.cpu().numpy().tobytes())
    digest.update(tokenizer.fingerprint.encode())
    for title in titles:
        digest.update(title.encode("utf-8", "replace") + b"\0")
    cached = cache_folder() / "titles" / f"{digest.hexdigest()[:24]}.npz"
    if (known := _cached_states(cached, len(titles))) is not None:
        return known
    states = encoder.to(best_device()).read_titles(titles, tokenizer, progress=progress)
    encoder.to("cpu")
    _cache_states(cached, states)
    return states


def _cached_states(path: Path, n_titles: int) -> npt.NDArray[np.float32] | None:
    """Return cached readings; None where there are none, or the file is damaged, which its checksum tells."""
    if not path.exists():
        return None
    try:
        with reading(path, "remove the file"), np.load(path, allow_pickle=False) as arrays:
            states: npt.NDArray[np.float32] = arrays["states"]
        if states.ndim == 3 and len(states) == n_titles and states.dtype == np.float32:
            return states
        problem = f"{path} has other readings"
    except ArtifactError as error:
        problem = error.message
    logger.warning("%s; the titles are read again", problem)
    return None


def _cache_states(path: Path, states: npt.NDArray[np.float32]) -> None:
    """Keep readings for later trainings, of which several may do so at the same time."""
    partial = temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            np.savez(file, states=states)
        os.replace(partial, path)
    except OSError as error:
        logger.warning("the readings of titles cannot be kept in %s: %s", path.parent, error.strerror or error)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@torch.no_grad()
def mean_embeddings(trunk: Trunk, titles: list[str], tokenizer: TitleTokenizer) -> torch.Tensor:
    """Return the (M, d) mean input embedding of each title's tokens."""
    tokens = tokenizer.encode(titles)
    starts = np.cumsum([0, *(len(title) for title in tokens[:-1])])
    table = trunk.lm.get_input_embeddings().weight
    return F.embedding_bag(torch.from_numpy(np.concatenate(tokens)), table, torch.from_numpy(starts), mode="mean")
