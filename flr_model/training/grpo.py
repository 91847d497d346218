"""Latent group-relative policy optimisation: align the thought itself, with no text of reasoning.

The policy is a Gaussian around the thought, r_j = r + sigma eps_j with eps_0 = 0, followed by the `catalog` decoder's
choice of an item; for `title` the thought is all, no text is generated. The backbone is frozen; the reasoner and the
item projection learn (docs/method.md, "Alignment").

Shapes: B users, G samples, K factors, L history items, D width of item vectors, d width of the thought, M items.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import set_seed

from flr_model.artifacts import check_free, writing_folder
from flr_model.config import AlignConfig, TrainConfig
from flr_model.config_io import build, dump_toml
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows
from flr_model.errors import ConfigError, DataError
from flr_model.evidence import PairEvents
from flr_model.nn.backbone import best_device
from flr_model.nn.evidence import EvidenceHead
from flr_model.nn.loading import Run, load_run
from flr_model.nn.model import FactorizedModel, Reading
from flr_model.nn.reasoner import Thought
from flr_model.nn.recommender import Batch, TrainableRecommender
from flr_model.nn.title_decoder import TitleBatch
from flr_model.progress import SILENT, Progress
from flr_model.segments import popularity_thirds
from flr_model.training import rewards
from flr_model.training.objectives import title_batch
from flr_model.training.state_cache import StateCache
from flr_model.training.trainer import Rates, Samples, Schedule, StageTrainer
from flr_model.training.validation import validator

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
    """Freeze everything but the policy: the reasoner, the latent map and the item projection."""
    recommender.requires_grad_(False)
    model = recommender.model
    of_items = [] if recommender.tree is not None else [model.decoder.thought_map]
    for parameter in (*model.reasoner.parameters(), *model.latent.parameters(), *of_items):
        parameter.requires_grad_(True)


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


class GrpoObjective(nn.Module):
    """The clipped surrogate over latent samples, plus an optional KL to the SFT policy.

    Samples come from an older copy of the policy, renewed every ``refresh_steps`` steps, so that the clip matters.

    Args:
        recommender: whose policy learns.
        config: of the alignment.
        cache: the backbone's states of the rows.
    """

    _keys_to_ignore_on_save = None  # the Trainer asks every model for it
    popularity: Tensor

    rewards: ClassVar[tuple[str, ...]] = tuple(REWARDS)
    """What a decoder can be rewarded for, the default first."""

    def __init__(self, recommender: TrainableRecommender, config: AlignConfig, cache: StateCache) -> None:
        super().__init__()
        self.reward = self.rewards[0] if config.reward == "auto" else config.reward
        self.recommender = recommender
        thirds = popularity_thirds(recommender.evidence.events.degree)
        kinds = torch.from_numpy(np.select([thirds == "head", thirds == "middle"], [0, 1], 2))
        self.register_buffer("popularity", kinds, persistent=False)  # (M,) third of the interactions
        self.settings = config  # `config` is what the Trainer takes for a transformers one
        self._cache = cache
        self._generator = torch.Generator().manual_seed(config.seed)
        self._steps = 0
        self._snapshots: dict[str, FactorizedModel] = {}

    def train(self, mode: bool = True) -> GrpoObjective:
        """Switch the mode; the decoder's statistics stay those of unperturbed thoughts."""
        super().train(mode)
        if self.recommender.tree is None:
            self.recommender.model.decoder.centre.eval()
        return self

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        """Return the loss, the mean reward of the unperturbed thoughts and the KL of a batch of rows."""
        model, config = self.recommender.model, self.settings
        self._renew()
        encoded = self._cache.get(batch["numbers"], batch)
        histories = self.recommender.history_batch(batch)
        with torch.no_grad():
            fixed = self._fixed(batch)
            old = self._snapshots["old"].think(encoded, histories)
            thoughts = self._sample(old.thought.thought)
            reward, old_answer = self._judge(self._snapshots["old"], old, thoughts, fixed, batch)
            advantage = self._advantage(reward, batch["target"])
            reference = self._snapshots["sft"].think(encoded, histories).thought.thought
        new = model.think(encoded, histories)
        answer = self._answer(model, new, thoughts, fixed, batch)
        mean, old_mean = new.thought.thought[:, None], old.thought.thought[:, None]
        log_ratio = rewards.latent_log_ratio(thoughts, mean, old_mean, config.noise) + answer - old_answer
        surrogate = rewards.clipped_objective(log_ratio, advantage, config.clip_low, config.clip_high)
        kl = rewards.gaussian_kl(new.thought.thought, reference, config.noise)
        return {"loss": config.kl * kl - surrogate, "reward": reward[:, 0].mean(), "divergence": kl.detach()}

    def _advantage(self, reward: Tensor, target: Tensor) -> Tensor:
        """(B, G) advantages of (B, G) rewards for (B,) targets."""
        if self.settings.advantage == "group":
            return rewards.group_advantage(reward)
        one_kind = self.settings.advantage == "batch"
        return rewards.batch_advantage(reward, torch.zeros_like(target) if one_kind else self.popularity[target])

    def _renew(self) -> None:
        """Copy the policy when it is time to."""
        model = self.recommender.model
        if not self._snapshots:
            self._snapshots["sft"] = snapshot(model)
        if self.training and self._steps % self.settings.refresh_steps == 0:
            self._snapshots["old"] = snapshot(model)
        self._steps += 1

    def _sample(self, mean: Tensor) -> Tensor:
        """(B, G, d) thoughts around (B, d), the first of each group unperturbed."""
        noise = torch.randn(len(mean), self.settings.group_size, mean.shape[1], generator=self._generator)
        noise[:, 0] = 0
        return mean[:, None] + self.settings.noise * noise.to(mean.device)

    def _judge(
        self, model: FactorizedModel, reading: Reading, thoughts: Tensor, fixed: Any, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        """Return (B, G) rewards, and (B, G) log-probabilities of the true item."""
        scores = self._scores(model, reading, thoughts, fixed)
        return REWARDS[self.reward](scores, batch["target"]), rewards.logprob_reward(scores, batch["target"])

    def _answer(self, model: FactorizedModel, reading: Reading, thoughts: Tensor, fixed: Any, batch: Batch) -> Tensor:
        """(B, G) log-probability of the true item, as far as the policy chooses it."""
        return rewards.logprob_reward(self._scores(model, reading, thoughts, fixed), batch["target"])

    def _fixed(self, batch: Batch) -> Any:
        """(B, 1, M) what the policy cannot change: the evidence, and the seen items but the target out of the race."""
        scores = self.recommender.evidence_scores(batch)
        own = batch["target"][:, None]
        kept = scores.gather(1, own)
        scores[tuple(batch["seen"])] = -torch.inf
        return scores.scatter(1, own, kept)[:, None]

    def _scores(self, model: FactorizedModel, reading: Reading, thoughts: Tensor, fixed: Tensor) -> Tensor:
        """(B, G, M) scores of the catalogue."""
        return decode_samples(model, reading, thoughts) @ self.recommender.item_vectors().T + fixed


class TitleGrpoObjective(GrpoObjective):
    """The same for the `title` decoder: the reward is minus the perplexity of the true title."""

    rewards: ClassVar[tuple[str, ...]] = ("perplexity",)

    def _fixed(self, batch: Batch) -> TitleBatch:
        return title_batch(batch)

    def _judge(
        self, model: FactorizedModel, reading: Reading, thoughts: Tensor, fixed: Any, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        whole = self.recommender.whole_vocabulary
        likelihood, n_choices = model.title_likelihood(reading, thoughts, fixed, whole_vocabulary=whole)
        return rewards.perplexity_reward(likelihood, n_choices), torch.zeros_like(likelihood)

    def _answer(self, model: FactorizedModel, reading: Reading, thoughts: Tensor, fixed: Any, batch: Batch) -> Tensor:
        """Zeros: no title is drawn, so it has no part in the ratio, and no gradient goes through the backbone."""
        return thoughts.new_zeros(thoughts.shape[:2])


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
    rows = train.select(np.sort(np.random.default_rng(align.seed).permutation(len(train))[: align.max_rows or None]))
    validate = validator(recommender.recommender, valid.spread(align.valid_rows))
    before = validate()
    sft = copy.deepcopy(recommender.model.state_dict())
    objective = kind(recommender, align, StateCache(recommender, rows, align.cache_mb, progress=progress))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="flr-align-") as folder:
        trainer = StageTrainer(
            objective,
            Samples.of_rows(recommender, rows),
            validate=validate,
            rates=Rates(0.0, 0.0, align.learning_rate, align.learning_rate, 0.0, 0.0),
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
