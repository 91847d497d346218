"""Latent group-relative policy optimisation: align the thought itself, with no text of reasoning.

The policy is a Gaussian around the thought, r_j = r + sigma eps_j with eps_0 = 0; what the decoder makes of a thought
is rewarded, but no item is drawn and no text is generated. The backbone and the decoder are frozen; the reasoner and
the latent map learn (docs/method.md, "Alignment").

Shapes: B users, G samples, K factors, L history items, D width of item vectors, d width of the thought, M items.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import set_seed

from flr_model.artifacts import check_free, writing_folder
from flr_model.config import AlignConfig, TrainConfig
from flr_model.config_io import build, dump_toml
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows
from flr_model.errors import ConfigError, DataError
from flr_model.evaluation.segments import popularity_thirds
from flr_model.evaluation.validation import validator
from flr_model.nn.backbone import best_device
from flr_model.nn.evidence_head import EvidenceHead
from flr_model.nn.model import FactorizedModel, Reading
from flr_model.nn.reasoner import Thought
from flr_model.nn.recommender import Batch, TrainableRecommender
from flr_model.nn.run import Run, load_run
from flr_model.progress import SILENT, Progress
from flr_model.ranking.pair_events import PairEvents
from flr_model.training import rewards
from flr_model.training.learner import Learner
from flr_model.training.objectives import candidates_for, sampling_offsets, title_batch
from flr_model.training.state_cache import StateCache
from flr_model.training.trainer import Rate, Samples, Schedule, StageTrainer

logger = logging.getLogger(__name__)

REWARDS = {"logprob": rewards.logprob_reward, "ndcg": rewards.ndcg_reward}


@dataclass(frozen=True)
class AlignReport:
    """What alignment did.

    Args:
        run: the folder written.
        kept: "aligned" or "sft": which weights the folder holds (alignment must do no harm).
        before, after: validation metrics of the SFT and of the aligned weights.
        rows: users' rows aligned on. steps: optimisation steps. seconds: wall-clock time of the loop.
    """

    run: str
    kept: str
    before: dict[str, float]
    after: dict[str, float]
    rows: int
    steps: int
    seconds: float


def let_policy_learn(recommender: TrainableRecommender) -> None:
    """Freeze everything but the policy: the reasoner and the latent map."""
    recommender.requires_grad_(False)
    recommender.model.reasoner.requires_grad_(True)
    recommender.model.latent.requires_grad_(True)


def snapshot(model: FactorizedModel) -> FactorizedModel:
    """Return a frozen copy of a model that shares its history encoder, and so its trunk."""
    return copy.deepcopy(model, {id(model.encoder): model.encoder}).requires_grad_(False)


def decode_samples(model: FactorizedModel, reading: Reading, thoughts: Tensor) -> Tensor:
    """Return the (B, G, D) users' vectors of G thoughts (B, G, d) a user; all else of the reading is shared."""
    n_users, group = thoughts.shape[:2]

    def repeat(tensor: Tensor) -> Tensor:
        return tensor.repeat_interleave(group, dim=0)

    flat, factors, attention = thoughts.flatten(0, 1), repeat(reading.thought.factors), repeat(reading.attention)
    gates = model.reasoner.weigh(flat, factors)
    thought = Thought(flat, factors, gates, attention)
    queries = model.decoder(thought, attention, repeat(reading.vectors), repeat(reading.newest))
    return queries.sum(1).view(n_users, group, -1)  # type: ignore[no-any-return]


class Race(NamedTuple):
    """What no thought changes about the choice among items.

    items: (N,) positions of the candidates; None stands for the catalogue. target: (B,) the true items' columns.
    scores: (B, 1, N) the evidence; -inf for what is out of the race, as all that the user had.
    """

    items: Tensor | None
    target: Tensor
    scores: Tensor


class GrpoObjective(Learner):
    """The clipped surrogate over latent samples, plus an optional KL to the SFT policy.

    Samples come from an older copy of the policy, renewed every ``refresh_steps`` steps, so that the clip matters.

    Args:
        recommender: whose policy learns.
        config: of the alignment.
        train: of the training before; says from how many items on the choice is among a sample.
        cache: the backbone's states of the rows.
    """

    popularity: Tensor

    rewards: ClassVar[tuple[str, ...]] = tuple(REWARDS)
    """What a decoder can be rewarded for, the default first."""

    def __init__(
        self, recommender: TrainableRecommender, config: AlignConfig, train: TrainConfig, cache: StateCache
    ) -> None:
        super().__init__(recommender, train)
        self.alignment = config
        self.reward = self.rewards[0] if config.reward == "auto" else config.reward
        thirds = popularity_thirds(recommender.evidence.events.degree)
        kinds = torch.from_numpy(np.select([thirds == "head", thirds == "middle"], [0, 1], 2))
        self.register_buffer("popularity", kinds, persistent=False)  # (M,) third of the interactions
        self._cache = cache
        self._generator = torch.Generator().manual_seed(config.seed)
        self._steps = 0
        self._snapshots: dict[str, FactorizedModel] = {}

    def train(self, mode: bool = True) -> GrpoObjective:
        """Switch the mode of the objective alone: dropout would drown the differences between a user's samples."""
        super().train(mode)
        self.recommender.eval()
        return self

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        """Return the loss, the mean reward of the unperturbed thoughts and the KL of a batch of rows."""
        config = self.alignment
        self._renew()
        encoded = self._cache.get(batch["numbers"], batch)
        histories = self.recommender.history_batch(batch)
        with torch.no_grad():
            old = self._snapshots["old"].think(encoded, histories)
            thoughts = self._sample(old.thought.thought)
            reward = self._judge(self._snapshots["old"], old, thoughts, batch)
            advantage = self._advantage(reward, batch["target"])
            reference = self._snapshots["sft"].think(encoded, histories).thought.thought
        new = self.recommender.model.think(encoded, histories)
        mean, old_mean = new.thought.thought[:, None], old.thought.thought[:, None]
        log_ratio = rewards.latent_log_ratio(thoughts, mean, old_mean, config.noise)
        surrogate = rewards.clipped_objective(log_ratio, advantage, config.clip_low, config.clip_high)
        kl = rewards.gaussian_kl(new.thought.thought, reference, config.noise)
        return {"loss": config.kl * kl - surrogate, "reward": reward[:, 0].mean(), "divergence": kl.detach()}

    def _advantage(self, reward: Tensor, target: Tensor) -> Tensor:
        """(B, G) advantages of (B, G) rewards for (B,) targets."""
        if self.alignment.advantage == "group":
            return rewards.group_advantage(reward)
        one_kind = self.alignment.advantage == "batch"
        return rewards.batch_advantage(reward, torch.zeros_like(target) if one_kind else self.popularity[target])

    def _renew(self) -> None:
        """Copy the policy when it is time to."""
        model = self.recommender.model
        if not self._snapshots:
            self._snapshots["sft"] = snapshot(model)
        if self.training and self._steps % self.alignment.refresh_steps == 0:
            self._snapshots["old"] = snapshot(model)
        self._steps += 1

    def _sample(self, mean: Tensor) -> Tensor:
        """(B, G, d) thoughts around (B, d), the first of each group unperturbed."""
        noise = torch.randn(len(mean), self.alignment.group_size, mean.shape[1], generator=self._generator)
        noise[:, 0] = 0
        return mean[:, None] + self.alignment.noise * noise.to(mean.device)

    def _judge(self, model: FactorizedModel, reading: Reading, thoughts: Tensor, batch: Batch) -> Tensor:
        """(B, G) rewards of thoughts (B, G, d)."""
        race = self._race(batch)
        answers = self.recommender.item_vectors(race.items)
        scores = decode_samples(model, reading, thoughts) @ answers.T + race.scores  # (B, G, N)
        return REWARDS[self.reward](scores, race.target)

    def _race(self, batch: Batch) -> Race:
        """Return what no thought changes of a batch of rows."""
        target = batch["target"]
        candidates = candidates_for(target, len(self.recommender.catalog), self.settings)
        if candidates is not None:  # a sample of a large catalogue hardly meets what the users had
            evidence = self.recommender.evidence_scores(batch, candidates.items)
            column = (candidates.items == target[:, None]).long().argmax(1)
            return Race(candidates.items, column, (evidence + sampling_offsets(target, candidates))[:, None])
        evidence = self.recommender.evidence_scores(batch)
        own = target[:, None]
        kept = evidence.gather(1, own)
        evidence[tuple(batch["seen"])] = -torch.inf
        return Race(None, target, evidence.scatter(1, own, kept)[:, None])


class TitleGrpoObjective(GrpoObjective):
    """The same for the `title` decoder: the reward is minus the perplexity of the true title."""

    rewards: ClassVar[tuple[str, ...]] = ("perplexity",)

    def _judge(self, model: FactorizedModel, reading: Reading, thoughts: Tensor, batch: Batch) -> Tensor:
        whole = self.recommender.whole_vocabulary
        likelihood, n_choices = model.title_likelihood(reading, thoughts, title_batch(batch), whole_vocabulary=whole)
        return rewards.perplexity_reward(likelihood, n_choices)


def align(
    run_folder: Path,
    out: Path,
    *,
    align: AlignConfig,
    data: Path | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> AlignReport:
    """Align a run and write another one.

    Args:
        run_folder: run to start from.
        out: run folder to write.
        align: settings.
        data: dataset folder, if it is not where the run says.
        overwrite: replace ``out``.
        progress: is told of steps and rewards.

    Raises:
        ArtifactError, ConfigError, DataError: if something given cannot be used.
    """
    check_free(out, overwrite=overwrite)
    run = load_run(run_folder)
    dataset = Dataset.of(run.manifest, data)
    train, valid = dataset.rows("train"), dataset.rows("valid")
    if not len(train) or not len(valid):
        raise DataError(f"{dataset.folder} has no rows to align on or to validate with")
    kind = GrpoObjective if run.tree is None else TitleGrpoObjective
    if align.reward not in ("auto", *kind.rewards):
        known = ", ".join(kind.rewards)
        raise ConfigError(f"--reward {align.reward} does not fit --decoder {run.config.decoder}, which has {known}")
    set_seed(align.seed)
    recommender = trainable(run, train).to(best_device())
    let_policy_learn(recommender)
    newest = np.argsort(train.target_time, kind="stable")[-align.max_rows :]  # all of them for 0
    rows = train.select(np.sort(newest))
    validate = validator(recommender.recommender, valid.spread(align.valid_rows))
    before = validate()
    sft = copy.deepcopy(recommender.model.state_dict())
    settings = build(TrainConfig, run.manifest.settings["train"])
    objective = kind(recommender, align, settings, StateCache(recommender, rows, align.cache_mb, progress=progress))
    rate = Rate(align.learning_rate, weight_decay=0.0)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="flr-align-") as folder:
        trainer = StageTrainer(
            objective,
            Samples.of_rows(recommender, rows),
            validate=validate,
            rates={"reasoner": rate, "scalars": rate},
            schedule=Schedule(
                align.epochs, align.max_steps, align.batch_size, 1, align.warmup_steps, None, "fp32", align.seed
            ),
            folder=Path(folder),
            progress=progress,
        )
        trainer.run(resume=False)
    after = validate()
    kept = "aligned" if after["NDCG@10"] > before["NDCG@10"] else "sft"
    if kept == "sft":
        logger.warning("alignment did not improve validation NDCG@10: the SFT weights are kept")
        recommender.model.load_state_dict(sft)
    seconds = time.perf_counter() - began
    report = AlignReport(str(out), kept, before, after, len(rows), trainer.state.global_step, seconds)
    with writing_folder(out, overwrite=overwrite) as temporary:
        _write(temporary, run, run_folder, dataset, align, report)
    return report


def _write(folder: Path, run: Run, source: Path, dataset: Dataset, align: AlignConfig, report: AlignReport) -> None:
    facts = {"stage": "align", "align": vars(report), "dataset": str(dataset.folder.resolve())}
    manifest = replace(
        run.manifest,
        settings={**run.manifest.settings, align.table: align.as_dict()},
        content={**run.manifest.content, **facts},
        source=str(source),
    )
    configs = [run.config, build(TrainConfig, run.manifest.settings["train"]), align]
    replace(run, manifest=manifest).write(folder, dump_toml(configs))


def trainable(run: Run, train: HistoryRows) -> TrainableRecommender:
    """Rebuild what training had from a run and its training rows; the item vectors are final."""
    events = PairEvents.count(train, len(run.catalog), run.evidence.lag_bounds)
    evidence = EvidenceHead(events, max_history=run.config.max_history)
    evidence.load_state_dict(run.evidence_weights)
    recommender = TrainableRecommender(
        run.config, run.catalog, run.model, torch.from_numpy(run.vectors), evidence, run.tokenizer()
    )
    recommender.whole_vocabulary = run.manifest.settings["train"].get("title_softmax") == "vocabulary"
    return recommender
