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
from flr_model.nn.build import Network
from flr_model.nn.model import FactorizedModel
from flr_model.nn.recommender import Batch, TrainableRecommender
from flr_model.nn.run import Run, load_run
from flr_model.progress import SILENT, Progress
from flr_model.ranking.pair_events import PairEvents
from flr_model.training.advantages import (
    batch_advantage,
    clipped_objective,
    gaussian_kl,
    group_advantage,
    latent_log_ratio,
)
from flr_model.training.learner import Learner
from flr_model.training.state_cache import StateCache
from flr_model.training.trainer import Rate, Samples, Schedule, StageTrainer, Validate

logger = logging.getLogger(__name__)


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


def freeze_all_but_policy(recommender: TrainableRecommender) -> None:
    """Let only the policy learn: the reasoner and the latent map."""
    recommender.requires_grad_(False)
    recommender.model.reasoner.requires_grad_(True)
    recommender.model.latent.requires_grad_(True)


def snapshot(model: FactorizedModel) -> FactorizedModel:
    """Return a frozen copy of a model that shares its history encoder, and so its trunk."""
    return copy.deepcopy(model, {id(model.encoder): model.encoder}).requires_grad_(False)


class GrpoObjective(Learner):
    """The clipped surrogate over latent samples, plus an optional KL to the SFT policy.

    Samples come from an older copy of the policy, renewed every ``refresh_steps`` steps, so that the clip matters.

    Args:
        recommender: whose policy learns.
        config: of the alignment.
        cache: the backbone's states of the rows.
    """

    popularity: Tensor

    def __init__(self, recommender: TrainableRecommender, config: AlignConfig, cache: StateCache) -> None:
        super().__init__(recommender)
        self.settings = config  # `config` is what the Trainer takes for a transformers one
        self.reward = recommender.head.rewards[0] if config.reward == "auto" else config.reward
        thirds = popularity_thirds(recommender.head.evidence.events.degree)
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

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss, the mean reward of the unperturbed thoughts and the KL of a batch of rows."""
        config, recommender, targets = self.settings, self.recommender, batch.targets
        assert batch.numbers is not None, "states are kept by the number of a row"
        self._renew()
        histories = recommender.history_batch(batch.inputs)
        encoded = self._cache.get(batch.numbers, histories)
        with torch.no_grad():
            old = self._snapshots["old"].think(encoded, histories)
            thoughts = self._sample(old.thought.thought)
            reward = recommender.head.reward(
                self.reward, self._snapshots["old"], recommender.items, old, thoughts, targets
            )
            advantage = self._advantage(reward, targets.item)
            reference = self._snapshots["sft"].think(encoded, histories).thought.thought
        new = recommender.model.think(encoded, histories).thought.thought
        log_ratio = latent_log_ratio(thoughts, new[:, None], old.thought.thought[:, None], config.noise)
        surrogate = clipped_objective(log_ratio, advantage, config.clip_low, config.clip_high)
        kl = gaussian_kl(new, reference, config.noise)
        return {"loss": config.kl * kl - surrogate, "reward": reward[:, 0].mean(), "divergence": kl.detach()}

    def _advantage(self, reward: Tensor, target: Tensor) -> Tensor:
        """(B, G) advantages of (B, G) rewards for (B,) targets."""
        if self.settings.advantage == "group":
            return group_advantage(reward)
        one_kind = self.settings.advantage == "batch"
        return batch_advantage(reward, torch.zeros_like(target) if one_kind else self.popularity[target])

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
    if align.reward not in ("auto", *run.head.rewards):
        known = ", ".join(run.head.rewards)
        raise ConfigError(f"--reward {align.reward} does not fit --decoder {run.config.decoder}, which has {known}")
    dataset = Dataset.of(run.manifest, data)
    train, valid = dataset.rows("train"), dataset.rows("valid")
    if not len(train) or not len(valid):
        raise DataError(f"{dataset.folder} has no rows to align on or to validate with")
    set_seed(align.seed)
    recommender = trainable(run, train).to(best_device())
    freeze_all_but_policy(recommender)
    by_time = np.argsort(train.target_time, kind="stable")
    rows = train.select(np.sort(by_time[-(align.max_rows or len(train)) :]))
    validate = validator(recommender.recommender, valid.spread(align.valid_rows))
    before = validate()
    sft = copy.deepcopy(recommender.model.state_dict())
    began = time.perf_counter()
    steps = _optimise(recommender, rows, align, validate, progress)
    after = validate()
    kept = "aligned" if after["NDCG@10"] > before["NDCG@10"] else "sft"
    if kept == "sft":
        logger.warning("alignment did not improve validation NDCG@10: the SFT weights are kept")
        recommender.model.load_state_dict(sft)
    report = AlignReport(
        run=str(out),
        kept=kept,
        before=before,
        after=after,
        rows=len(rows),
        steps=steps,
        seconds=time.perf_counter() - began,
    )
    with writing_folder(out, overwrite=overwrite) as temporary:
        _write(temporary, run, run_folder, dataset, align, report)
    return report


def _optimise(
    recommender: TrainableRecommender, rows: HistoryRows, config: AlignConfig, validate: Validate, progress: Progress
) -> int:
    """Align the policy of a recommender in place; return the number of steps."""
    rate = Rate(config.learning_rate, weight_decay=0.0)
    cache = StateCache(recommender, rows, config.cache_mb, progress=progress)
    with tempfile.TemporaryDirectory(prefix="flr-align-") as folder:
        trainer = StageTrainer(
            GrpoObjective(recommender, config, cache),
            Samples.of_rows(recommender, rows),
            validate=validate,
            rates={"reasoner": rate, "scalars": rate},
            schedule=Schedule(
                epochs=config.epochs,
                max_steps=config.max_steps,
                batch_size=config.batch_size,
                grad_accumulation=1,
                warmup_steps=config.warmup_steps,
                patience=None,
                precision="fp32",
                seed=config.seed,
            ),
            folder=Path(folder),
            progress=progress,
        )
        trainer.run(resume=False)
    return int(trainer.state.global_step)


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
    settings = build(TrainConfig, run.manifest.settings["train"])
    events = PairEvents.count(train, len(run.catalog), run.evidence.lag_bounds)
    run.head.attach(run.catalog, run.tokenizer(), events, settings)
    network = Network(run.model, run.head)
    return TrainableRecommender(run.config, run.catalog, network, torch.from_numpy(run.vectors), run.tokenizer())
