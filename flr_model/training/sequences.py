"""Sequence training: the trunk learns to predict the next item at every place of the users' sequences.

One pass of the trunk over a piece of a sequence trains all its places, where supervised fine-tuning trains one row a
pass, so a laptop can afford it; then the trunk is frozen and the head learns. For the `items` encoding and the
`catalog` decoder (docs/method.md, "What of the backbone learns").

Shapes: B pieces, S places of a piece, n places that are not padding, M items, D width of item vectors, d width of the
backbone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from flr_model.arrays import Ints, ranges
from flr_model.config import TrainConfig
from flr_model.data.histories import PAD, HistoryRows, sequences
from flr_model.nn.catalog_decoder import NextItemHead
from flr_model.nn.parameter_groups import Groups, join_groups
from flr_model.nn.recommender import TrainableRecommender
from flr_model.nn.sampled_softmax import item_cross_entropy
from flr_model.progress import Progress
from flr_model.training.learner import Learner
from flr_model.training.tracking import Tracking
from flr_model.training.trainer import Rate, Samples, Schedule, StageTrainer, Validate, rates_of

logger = logging.getLogger(__name__)

DROPOUT = 0.2
"""On the item vectors that the trunk reads and on its states."""

PIECES_PER_STEP = 32

WEIGHTS = (0.15, 0.3, 0.45, 0.6, 0.8, 1.0)
"""Of the next-item head, tried in this order until validation falls."""


class SequenceBatch(NamedTuple):
    """B pieces of sequences.

    pieces: (B, S + 1) items, padded on the left. seen: (2, H) numbers of the places that are read, and the items that
    are masked at each: all that its user has seen until then, but the target.
    """

    pieces: Tensor
    seen: Tensor


class SequenceObjective(Learner):
    """Cross-entropy of the next item at every place: softmax over items not seen yet of c <W h / sqrt(d) + b e, e_i>.

    h is the trunk's state at the place and e the vector of the item there; W starts at zero.

    Args:
        recommender: whose trunk, map into it, item scale and residuals learn; nothing else of it is used.
    """

    def __init__(self, recommender: TrainableRecommender) -> None:
        super().__init__(recommender)
        width, size = recommender.model.encoder.trunk.width, recommender.config.embedding_size
        self.next_item = nn.Linear(width, size, bias=False)  # W
        nn.init.zeros_(self.next_item.weight)
        self.last_item_weight = nn.Parameter(torch.tensor(0.5))  # b
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))  # log c
        self.dropout = nn.Dropout(DROPOUT)

    def parameter_groups(self) -> Groups:
        """Return the group of every parameter."""
        scalars = [self.last_item_weight, self.log_scale]
        own: Groups = {"item_maps": list(self.next_item.parameters()), "scalars": scalars}
        return join_groups(super().parameter_groups(), own)

    def forward(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Return the loss of a batch of pieces."""
        items, encoder, pieces = self.recommender.items, self.recommender.model.encoder, batch.pieces
        read, mask = pieces[:, :-1], (pieces[:, :-1] != PAD).long()
        vectors = items.of_histories(read)
        states, _ = encoder.trunk.read_by_length(encoder.embed_items(self.dropout(vectors)), mask, keep=False)
        states, vectors, target = states[mask > 0], vectors[mask > 0], pieces[:, 1:][mask > 0]  # (n, d), (n, D), (n,)
        predicted = self.next_item(self.dropout(states)) / math.sqrt(states.shape[-1])
        predicted = predicted + self.last_item_weight * vectors
        sample = self.recommender.head.softmax.sample(target, len(items))
        answers = items(None if sample is None else sample.items)
        scores = self.log_scale.exp() * predicted @ answers.T
        if sample is None:  # a sample of a large catalogue hardly meets them
            scores = scores.index_put((batch.seen[0], batch.seen[1]), scores.new_tensor(-torch.inf))
        return {"loss": item_cross_entropy(scores, target, sample)}

    @torch.no_grad()
    def learned(self) -> NextItemHead:
        """Return what the decoder takes: c W and c b."""
        scale = self.log_scale.exp()
        return NextItemHead((self.next_item.weight * scale).T.clone(), (self.last_item_weight * scale).clone())


def pieces(user: Ints, length: int) -> Ints:
    """Cut every user's sequence into pieces of at most ``length`` + 1 interactions.

    Neighbouring pieces share one, so every interaction but a user's first is a target exactly once.

    Args:
        user: users of the interactions, sequence after sequence.
        length: places that are read.

    Returns:
        (n, length + 1) places in ``user``, padded on the left.
    """
    cut = []
    for sequence in np.split(np.arange(len(user)), np.flatnonzero(np.diff(user)) + 1):
        for start in range(0, len(sequence) - 1, length):
            piece = sequence[start : start + length + 1]
            cut.append(np.pad(piece, (length + 1 - len(piece), 0), constant_values=PAD))
    return np.array(cut, np.int64).reshape(-1, length + 1)


def sequence_samples(recommender: TrainableRecommender, rows: HistoryRows) -> Samples:
    """Return the pieces of training rows, as long as the histories that the model reads."""
    user, item, _, _ = sequences(rows)
    first = np.searchsorted(user, user)  # of the sequence that an interaction is in
    cut = pieces(user, recommender.config.max_history)

    def batch(numbers: Ints) -> SequenceBatch:
        at = cut[numbers]
        read = at[:, :-1] != PAD
        last, target = at[:, :-1][read], item[at[:, 1:][read]]
        length = last + 1 - first[last]
        place, seen = np.repeat(np.arange(len(last)), length), item[ranges(first[last], length)]
        other = seen != target[place]
        return SequenceBatch(
            pieces=torch.from_numpy(np.where(at == PAD, PAD, item[at])),
            seen=torch.from_numpy(np.stack([place, seen])[:, other]),
        )

    return Samples(len(cut), batch, "sequences")


def sequence_learners(recommender: TrainableRecommender) -> set[nn.Parameter]:
    """Return what of a recommender learns on sequences: the trunk, the map into it, the items' scale and residuals."""
    encoder = recommender.model.encoder
    embeddings = encoder.trunk.lm.get_input_embeddings().weight
    return {weight for weight in (*encoder.parameters(), *recommender.items.parameters()) if weight is not embeddings}


def learn_sequences(
    recommender: TrainableRecommender,
    rows: HistoryRows,
    config: TrainConfig,
    *,
    folder: Path,
    resume: bool,
    progress: Progress,
    tracking: Tracking = Tracking(),
) -> NextItemHead:
    """Train the trunk, which is frozen before and after.

    Args:
        recommender: whose trunk learns.
        rows: training rows.
        config: length, steps and rates.
        folder: for checkpoints.
        resume: go on from the newest checkpoint.
        progress: is told of every step.
        tracking: where its figures go besides.

    Returns:
        What the head needs to predict from the trunk's states.
    """
    objective = SequenceObjective(recommender)
    trainer = StageTrainer(
        objective,
        sequence_samples(recommender, rows),
        validate=None,
        rates={**rates_of(config), "projection": Rate(config.learning_rate, config.weight_decay)},
        schedule=replace(Schedule.of(config), epochs=config.sequence_epochs, batch_size=PIECES_PER_STEP, patience=None),
        folder=folder,
        progress=progress,
        tracking=tracking,
        stage="sequences",
    )
    with learning(recommender, sequence_learners(recommender)):
        trainer.run(resume=resume)
    return objective.learned()


@contextmanager
def learning(module: nn.Module, chosen: set[nn.Parameter]) -> Iterator[None]:
    """Let only the chosen parameters of a module learn in the block."""
    before = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    for parameter, _ in before:
        parameter.requires_grad_(parameter in chosen)
    try:
        yield
    finally:
        for parameter, learns in before:
            parameter.requires_grad_(learns)


def weigh_next_item_head(
    recommender: TrainableRecommender,
    learned: NextItemHead,
    asked: float | None,
    validate: Validate | None,
    without: float | None = None,
) -> float:
    """Give the head what the trunk learned, with the weight asked for or, for None, the best one by validation NDCG@10.

    A weight learned on the training rows would be too large: the trunk has seen them several times.

    Args:
        recommender: trained.
        learned: what `learn_sequences` returned.
        asked: weight, or None.
        validate: ranks the validation rows; None leaves it out where no weight is asked for.
        without: validation NDCG@10 of the recommender as it is; None ranks for it.

    Returns:
        The weight; 0 where it does not help.
    """
    head = recommender.head
    if asked is not None or validate is None:
        head.set_next_item_head(learned, asked or 0.0)
        return asked or 0.0
    tried = {0.0: validate()["NDCG@10"] if without is None else without}
    for weight in WEIGHTS:
        head.set_next_item_head(learned, weight)
        tried[weight] = validate()["NDCG@10"]
        if tried[weight] < max(tried.values()):
            break
    best = max(tried, key=tried.__getitem__)
    head.set_next_item_head(learned, best)
    figures = ", ".join(f"{weight:g}: {value:.4f}" for weight, value in tried.items())
    logger.info("weight of the trunk's own prediction: %g (validation NDCG@10 by weight: %s)", best, figures)
    return best
