"""Settings of `flr train`, `flr align` and `flr update`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flr_model.config.settings import (
    GATES,
    LENGTH,
    LOSS,
    OPTIMIZER,
    PERFORMANCE,
    POLICY,
    TITLE_ONLY,
    TUNING,
    Settings,
    report_to,
    setting,
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Settings):
    """Supervised fine-tuning."""

    table: ClassVar[str] = "train"

    tuning: str = setting(
        "auto",
        "training of the backbone: sequences (first, on whole sequences), frozen (none), lora or full (with the head); "
        "auto: chosen by the size of the data",
        choices=("auto", "sequences", "frozen", "lora", "full"),
    )
    epochs: int | None = setting(
        None,
        "passes over the training rows; auto: 3, or 1 after sequences and where users have many rows",
        low=1,
        auto=0,
    )
    batch_size: int = setting(128, "rows per step and device", low=1)
    seed: int = setting(0, "seed of initial weights, order of the rows and dropout", low=0)
    max_steps: int | None = setting(None, "stop after this many steps; auto: no limit", low=1, auto=0, panel=LENGTH)
    patience: int = setting(2, "stop after this many epochs without a better validation NDCG@10", low=1, panel=LENGTH)
    valid_rows: int | None = setting(
        None,
        "validation rows ranked after each epoch, evenly spaced; auto: at most 10000, or 400 where titles "
        "are searched (--guidance below 1)",
        low=1,
        auto=0,
        panel=LENGTH,
    )
    sequence_epochs: int = setting(
        4,
        "passes over the users' sequences before the head is trained",
        low=1,
        panel=TUNING,
        only={"tuning": ("auto", "sequences")},
    )
    forecast: float | None = setting(
        None,
        "weight of the backbone's own next-item prediction in the score; auto: chosen on the validation rows",
        low=0.0,
        auto=-1.0,
        panel=TUNING,
        only={"tuning": ("auto", "sequences")},
    )
    title_epochs: int = setting(
        6,
        "passes over the catalogue's titles, in which the backbone learns to write an item's title from its vector",
        low=0,
        panel=TUNING,
        only=TITLE_ONLY,
    )
    writing_rows: int | None = setting(
        None,
        "training rows from which the backbone learns to write titles after histories; auto: each training row once, "
        "at most 20000",
        low=1,
        auto=0,
        panel=TUNING,
        only=TITLE_ONLY,
    )
    writer_tuning: str = setting(
        "full",
        "training of the backbone that writes titles: all weights, or LoRA matrices where these do not fit in memory",
        choices=("full", "lora"),
        panel=TUNING,
        only=TITLE_ONLY,
    )
    lora_rank: int = setting(
        8,
        "rank of the LoRA matrices",
        low=1,
        panel=TUNING,
        only={"tuning": ("auto", "lora"), "writer_tuning": ("lora",)},
    )
    backbone_learning_rate: float = setting(
        1e-4,
        "learning rate of the backbone; with --decoder title three times it on the catalogue's titles",
        low=0.0,
        panel=TUNING,
        only={"tuning": ("auto", "sequences", "lora", "full"), **TITLE_ONLY},
    )
    learning_rate: float = setting(1e-3, "learning rate of the item maps", low=0.0, panel=OPTIMIZER)
    residual_learning_rate: float = setting(5e-4, "learning rate of the per-item residuals", low=0.0, panel=OPTIMIZER)
    reasoner_learning_rate: float = setting(
        3e-5, "learning rate of the reasoner and of its map into item space", low=0.0, panel=OPTIMIZER
    )
    scalar_learning_rate: float = setting(
        2e-2, "learning rate of the head's scalars (slopes, scales, kernels)", low=0.0, panel=OPTIMIZER
    )
    weight_decay: float = setting(0.01, "weight decay of the matrices", low=0.0, panel=OPTIMIZER)
    warmup_steps: int = setting(50, "steps of linear warm-up before the cosine schedule", low=0, panel=OPTIMIZER)
    grad_accumulation: int = setting(1, "batches whose gradients are summed in a step", low=1, panel=OPTIMIZER)
    orthogonality: float = setting(0.01, "weight of the squared cosines between factors", low=0.0, panel=LOSS)
    diversity: float = setting(0.1, "weight of the cosines between the factors' attention", low=0.0, panel=LOSS)
    sparsity: float = setting(0.05, "weight of the entropy of the gates", low=0.0, panel=LOSS)
    full_softmax_items: int = setting(50_000, "largest catalogue trained with the full softmax", low=1, panel=LOSS)
    negatives: int = setting(4096, "sampled negatives per step for larger catalogues", low=1, panel=LOSS)
    precision: str = setting(
        "auto",
        "precision of training, on a CPU that of a backbone that learns; auto: bf16 where the device multiplies it",
        choices=("auto", "fp32", "bf16", "fp16"),
        panel=PERFORMANCE,
    )
    title_precision: str = setting(
        "auto",
        "precision in which titles are read; auto: bf16 where the device multiplies it, else fp32",
        choices=("auto", "fp32", "bf16"),
        panel=PERFORMANCE,
    )
    report_to: str = report_to()


@dataclass(frozen=True, kw_only=True)
class AlignConfig(Settings):
    """Latent group-relative policy optimization."""

    table: ClassVar[str] = "align"

    epochs: int = setting(1, "passes over the training rows", low=1)
    max_rows: int | None = setting(3_000, "training rows to align on, newest kept; auto: all", low=1, auto=0)
    batch_size: int = setting(256, "users per step", low=1)
    learning_rate: float = setting(3e-4, "learning rate of the reasoner and the latent map", low=0.0)
    seed: int = setting(0, "seed of the order of the rows and of the noise", low=0)
    policy: str = setting(
        "auto",
        "what the rewards move: the thought, by those of perturbed ones, or the gates, by the rewards of the factors; "
        "auto: thought",
        choices=("auto", "thought", "gates"),
        panel=POLICY,
    )
    reward: str = setting(
        "auto",
        "reward: log-probability of the true next item, NDCG of its rank, or negative perplexity of its title; "
        "auto: logprob, with --decoder title perplexity",
        choices=("auto", "logprob", "ndcg", "perplexity"),
        panel=POLICY,
    )
    advantage: str = setting(
        "group",
        "baseline of the rewards: mean of the unperturbed ones in the batch, of those with targets of like "
        "popularity, or of the user's own group",
        choices=("batch", "popularity", "group"),
        panel=POLICY,
    )
    group_size: int = setting(8, "latent samples per user, G; the first is unperturbed", low=2, panel=POLICY)
    noise: float | None = setting(
        0.5,
        "standard deviation of the noise, relative to the thought's root mean square; auto: grows while more than a "
        "fifth of the samples are better than the thought, else shrinks",
        low=0.0,
        auto=-1.0,
        panel=POLICY,
    )
    clip_low: float = setting(0.2, "lower clip of the probability ratio", low=0.0, high=1.0, panel=POLICY)
    clip_high: float = setting(0.28, "upper clip of the probability ratio", low=0.0, panel=POLICY)
    kl: float | None = setting(
        0.0,
        "weight of the KL divergence from the SFT policy; auto: falls while rows not yet learned from gain, else rises",
        low=0.0,
        auto=-1.0,
        panel=POLICY,
    )
    refresh_steps: int = setting(4, "steps between updates of the sampling policy", low=1, panel=POLICY)
    max_steps: int | None = setting(None, "stop after this many steps; auto: no limit", low=1, auto=0, panel=LENGTH)
    valid_rows: int | None = setting(
        None,
        "validation rows ranked before and after, evenly spaced; auto: at most 10000, or 400 where titles are "
        "searched (--guidance below 1)",
        low=1,
        auto=0,
        panel=LENGTH,
    )
    warmup_steps: int = setting(5, "steps of linear warm-up before the cosine schedule", low=0, panel=LENGTH)
    cache_mb: int = setting(
        2048,
        "memory for cached states of the backbone, in MB; larger ones are computed at every step",
        low=0,
        panel=PERFORMANCE,
    )
    report_to: str = report_to()


@dataclass(frozen=True, kw_only=True)
class UpdateConfig(Settings):
    """How a run goes on with new interactions."""

    table: ClassVar[str] = "update"

    held_out: float = setting(
        0.5,
        "share of the new rows, the newest, that is not learned from: the newer half of it decides whether the run is "
        "kept, the older half is for validation",
        low=0.01,
        high=0.9,
    )
    max_rows: int | None = setting(
        None,
        "training rows to learn from, newest kept; auto: a tenth of what the run's training would go over",
        low=1,
        auto=0,
    )
    epochs: int = setting(1, "passes over these rows", low=1)
    rate: float = setting(0.3, "learning rates, as a share of those that the run was trained with", low=0.0)
    seed: int = setting(0, "seed of the order of the rows, dropout and the bootstrap", low=0)
    max_loss: float = setting(
        0.0,
        "largest relative loss of NDCG@10 on the newest rows, against the run in use, that is not refused",
        low=0.0,
        high=1.0,
        panel=GATES,
    )
