"""Everything between a dataset folder and the training loop: rows, backbone, item vectors, untrained model."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from flr_model.config import ModelConfig, TrainConfig
from flr_model.config_io import build, current
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows
from flr_model.errors import DataError, pluralize
from flr_model.nn.backbone import Backbone, Trunk, load_backbone, load_lm, load_output_embeddings
from flr_model.nn.build import Network, WritingModel, build_model
from flr_model.nn.item_encoder import ItemEncoder
from flr_model.nn.recommender import TrainableRecommender
from flr_model.nn.run import Run, build_item_encoder, title_tokenizer
from flr_model.progress import SILENT, Progress
from flr_model.ranking.pair_events import PairEvents
from flr_model.titles.tokens import TitleTokenizer
from flr_model.training.readings import read_catalogue
from flr_model.training.tracking import Tracking
from flr_model.training.tuning import choose_epochs, choose_readers, choose_tuning, trunk_in_bf16, tune, tune_writer

logger = logging.getLogger(__name__)


@dataclass
class Setup:
    """What training starts from.

    Args:
        dataset: opened.
        rows: to train on.
        valid: to validate with; None when they are trained on.
        backbone: of the trunk.
        item_encoder: fitted to the catalogue.
        recommender: untrained, its trunk frozen, extended or free.
        tuning: sequences, frozen, lora or full.
        epochs: passes over the rows.
        writers: what of a language model that writes titles is to learn after all else.
        tracking: where the figures of the training go besides the terminal.
    """

    dataset: Dataset
    rows: HistoryRows
    valid: HistoryRows | None
    backbone: Backbone
    item_encoder: ItemEncoder
    recommender: TrainableRecommender
    tuning: str
    epochs: int
    writers: set[nn.Parameter]
    tracking: Tracking = field(default_factory=Tracking)

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
            unordered=events.unordered,
            writing_model=lambda: _load_writing_model(model),
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
        model: shape; what it leaves open of the readers of titles is chosen.
        train: of which the tuning, the epochs and the precision of titles matter here.
        hold_out: keep the validation rows out of training.
        progress: is told of titles.

    Raises:
        ArtifactError: if the dataset or the backbone cannot be opened.
        ConfigError: if the shape does not fit the backbone.
        DataError: if there are no rows to train on or to validate with.
    """
    dataset = Dataset.open(data)
    rows, valid = _rows(dataset, hold_out=hold_out)
    events = PairEvents.count(rows, len(dataset.catalog), unordered=dataset.unordered)
    model = replace(model, layers=model.layers_read, item_readers=choose_readers(model.item_readers))
    backbone = load_backbone(model.backbone, layers=model.layers)
    item_encoder, tokenizer = build_item_encoder(model), title_tokenizer(backbone, model)
    network = build_model(
        model,
        Trunk(backbone.lm),
        tokenizer,
        n_lags=len(events.lag_bounds) + 1,
        unordered=events.unordered,
        writing_model=lambda: _load_writing_model(model),
    )
    encoder, titles = network.model.encoder, dataset.catalog.texts.tolist()
    tuning = choose_tuning(train.tuning, len(rows), int((events.degree > 0).sum()), encoder)
    unit = _fit_item_encoder(item_encoder, titles, train.title_precision, progress)
    _fit_network(network, unit, mean_embeddings(encoder.trunk, titles, tokenizer), train.seed)
    tune(network.model, tuning, train.lora_rank)
    encoder.trunk.bf16 = trunk_in_bf16(tuning, train.precision)
    writers = set() if network.head.writer is None else tune_writer(network.head.writer, train)
    network.head.attach(dataset.catalog, tokenizer, events, train)
    return Setup(
        dataset=dataset,
        rows=rows,
        valid=valid,
        backbone=backbone,
        item_encoder=item_encoder,
        recommender=TrainableRecommender(model, dataset.catalog, network, unit, tokenizer),
        tuning=tuning,
        epochs=choose_epochs(train.epochs, tuning, rows),
        writers=writers,
    )


def _load_writing_model(model: ModelConfig) -> WritingModel:
    """Load the backbone once more, with all layers that write."""
    trunk = Trunk(load_lm(model.backbone, layers=model.title.writer_layers))
    return WritingModel(trunk, load_output_embeddings(model.backbone))


def _fit_network(network: Network, unit: torch.Tensor, words: torch.Tensor, seed: int) -> None:
    """Prepare an untrained network for a catalogue: (M, D) item vectors, (M, d) mean embeddings of titles' tokens."""
    for part in (network.model.encoder, network.head):
        part.fit(unit, words)
    network.model.reasoner.fit(unit, seed=seed)


def _fit_item_encoder(item_encoder: ItemEncoder, titles: list[str], precision: str, progress: Progress) -> torch.Tensor:
    """Fit an item encoder to a catalogue's titles and return their (M, D) vectors before the learned scale."""
    for reader in item_encoder.readers:
        if n_cut := reader.tokenizer.n_cut(titles):
            logger.warning(
                "%s longer than %d tokens of %s, whose rest is not read (--title-tokens)",
                pluralize(n_cut, "title"),
                reader.tokenizer.title_tokens,
                reader.name,
            )
    readings = read_catalogue(item_encoder, titles, precision=precision, progress=progress)
    item_encoder.fit(readings)
    return item_encoder.whiten([torch.from_numpy(states) for states in readings]).detach()


def _rows(dataset: Dataset, *, hold_out: bool) -> tuple[HistoryRows, HistoryRows | None]:
    rows, valid = dataset.rows("train"), dataset.rows("valid")
    if not len(rows) or (hold_out and not len(valid)):
        raise DataError(
            f"{dataset.folder} has no rows to train on or to validate with", hint="prepare it with more interactions"
        )
    return (rows, valid) if hold_out else (HistoryRows.concatenate([rows, valid]), None)


@torch.no_grad()
def mean_embeddings(trunk: Trunk, titles: list[str], tokenizer: TitleTokenizer) -> torch.Tensor:
    """Return the (M, d) mean input embedding of each title's tokens."""
    tokens = tokenizer.encode(titles)
    starts = np.cumsum([0, *(len(title) for title in tokens[:-1])])
    table = trunk.lm.get_input_embeddings().weight
    return F.embedding_bag(torch.from_numpy(np.concatenate(tokens)), table, torch.from_numpy(starts), mode="mean")


def trainable(run: Run, train: HistoryRows) -> TrainableRecommender:
    """Rebuild what training started from, given a run and its training rows; the item vectors are final."""
    settings = build(TrainConfig, current(run.manifest.settings)["train"])
    evidence = run.evidence
    events = PairEvents.count(train, len(run.catalog), evidence.lag_bounds, unordered=evidence.unordered)
    run.head.attach(run.catalog, run.tokenizer(), events, settings)
    network = Network(run.model, run.head)
    return TrainableRecommender(run.config, run.catalog, network, torch.from_numpy(run.vectors), run.tokenizer())
