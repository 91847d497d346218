"""The settings of every stage, as frozen dataclasses.

Every field is a flag of the command, a key of the TOML file given with ``--config`` (one table per class) and a line
of the effective configuration that is saved with the result. Checks name a field as the flag is spelled.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, ClassVar

from flr_model.errors import ConfigError

TIME_FORMATS = ("seconds", "milliseconds", "yyyymmdd", "excel", "day-first", "month-first")
"""Values of --time-format beside "auto" and patterns of strptime."""


def setting(
    default: Any,
    text: str,
    *,
    choices: tuple[str, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
    auto: float | str | None = None,
    panel: str | None = None,
    only: tuple[str, tuple[str, ...]] | None = None,
) -> Any:
    """Declare one field.

    Args:
        default: its default.
        text: its help text: what it does.
        choices: the values it may take.
        low: least value.
        high: largest value.
        auto: if given, the value may be None, which flags and files write as the word ``auto``; files of earlier
            versions write it as this number.
        panel: heading of its group in ``--help``; None puts it among the common options.
        only: another field and the values of it with which this one has an effect; its flag is refused otherwise.
    """
    kind = type(auto if default is None else default)
    rules = {"help": text, "kind": kind, "choices": choices, "low": low, "high": high, "auto": auto}
    return field(default=default, metadata={**rules, "panel": panel, "only": only})


def own_fields(config: Settings | type[Settings]) -> list[Field[Any]]:
    """Return the fields of a configuration, without a part that has a table of its own."""
    return [f for f in fields(config) if "nested" not in f.metadata]


def flag_name(field_name: str) -> str:
    """Return the flag of a field.

    >>> flag_name("n_factors")
    '--n-factors'
    """
    return "--" + field_name.replace("_", "-")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of the configurations: checks every field against its declaration, all problems in one message.

    Raises:
        ConfigError: if a value is outside its choices or bounds.
    """

    table: ClassVar[str]
    """The table of the TOML file that holds these fields."""

    def __post_init__(self) -> None:
        for f in own_fields(self):
            if f.metadata["auto"] is not None and getattr(self, f.name) == f.metadata["auto"]:
                object.__setattr__(self, f.name, None)
        problems = [
            problem for f in own_fields(self) if (problem := _problem(f.name, getattr(self, f.name), f.metadata))
        ]
        problems += self.problems()
        if problems:
            raise ConfigError("; ".join(problems), hint="see the flag's range in `--help`")

    def problems(self) -> list[str]:
        """Name what is wrong between fields; a subclass overrides it where fields constrain each other."""
        return []

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for TOML and JSON; parts with a table of their own are left out."""
        return {f.name: getattr(self, f.name) for f in own_fields(self)}

    def parts(self) -> list[Settings]:
        """Return this and its part with a table of its own, if that one has a meaning."""
        return [self]


def _problem(name: str, value: Any, rule: Any) -> str | None:
    choices, low, high = rule["choices"], rule["low"], rule["high"]
    if value is None and rule["auto"] is not None:
        return None
    if value != value:
        return f"{flag_name(name)} is not a number"
    if choices is not None and value not in choices:
        return f"{flag_name(name)} is {value!r}, not one of {', '.join(choices)}"
    if low is not None and value < low:
        return f"{flag_name(name)} is {value}, below {low}"
    if high is not None and value > high:
        return f"{flag_name(name)} is {value}, above {high}"
    return None


MODEL = "Model"
READING = "Reading items and histories"
FILES = "Reading files"
TITLES = "Title decoder (--decoder title)"
LENGTH = "Length of training"
TUNING = "Tuning of the backbone"
OPTIMIZER = "Optimizer"
LOSS = "Loss"
POLICY = "Policy optimization"
GATES = "Quality gates"
PERFORMANCE = "Memory and speed"

TITLE_ONLY = ("decoder", ("title",))


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(Settings):
    """How raw interactions become rows of histories."""

    table: ClassVar[str] = "prepare"

    split: str = setting(
        "temporal",
        "how validation and test rows are held out: the latest of all users, or the last items of each user",
        choices=("temporal", "leave-one-out"),
    )
    valid_fraction: float = setting(
        0.1, "share of the rows held out for validation", low=0.0, high=0.9, only=("split", ("temporal",))
    )
    test_fraction: float = setting(
        0.1, "share of the rows held out for the test", low=0.0, high=0.9, only=("split", ("temporal",))
    )
    k_core: int = setting(1, "keep only users and items with at least this many interactions; 1 keeps all", low=1)
    strict: bool = setting(False, "refuse a file at its first row that cannot be read, instead of leaving it out")
    max_history: int = setting(
        20,
        "largest number of history items in a row, newest kept; older ones are remembered as seen items",
        low=1,
        high=10_000,
    )

    def problems(self) -> list[str]:
        """The two held-out shares must leave something to train on."""
        if self.valid_fraction + self.test_fraction >= 1:
            return ["--valid-fraction and --test-fraction leave no rows to train on"]
        return []


_OF_ONE = "of one file alone: items=NAME, as in 2,items=1"


def _found(text: str) -> Any:
    """Declare a setting that the content of the files answers where it is not given."""
    return setting(None, text, auto="auto", panel=FILES)


@dataclass(frozen=True, kw_only=True)
class FilesConfig(Settings):
    """How the files of interactions, items and histories are read; None finds it from the content."""

    table: ClassVar[str] = "files"

    user_col: str | None = _found(f"column of the users, by name, or by number where there is no header; {_OF_ONE}")
    item_col: str | None = _found("column of the items")
    time_col: str | None = _found("column of the times")
    title_col: str | None = _found("column of the titles")
    history_col: str | None = _found("column of the lists of a ready-made split")
    history_time_col: str | None = _found("column of the lists of their times")
    time: bool = setting(True, "there are times; without them rows count as ordered, oldest first", panel=FILES)
    time_format: str | None = _found(f"of times: {', '.join(TIME_FORMATS)}, or a pattern such as %d.%m.%y")
    encoding: str | None = _found("of text, for instance cp1251; of one file alone: items=cp1251")
    delimiter: str | None = _found("of text: any characters, or tab or space; of one file alone: items=tab")
    header: bool = setting(
        True, "the first line names the columns; without: only where flr knows one of its names", panel=FILES
    )

    def problems(self) -> list[str]:
        """Formats and encodings must exist."""
        problems = []
        if self.time_format is not None and self.time_format not in TIME_FORMATS and "%" not in self.time_format:
            problems.append(
                f"--time-format is {self.time_format!r}, not one of auto, {', '.join(TIME_FORMATS)}; nor a %-pattern"
            )
        for name in (self.encoding or "auto").replace("=", ",").split(",")[-1:]:
            try:
                "".encode("utf-8" if name == "auto" else name)
            except LookupError:
                problems.append(f"--encoding is {name!r}, which Python does not know")
        return problems


@dataclass(frozen=True, kw_only=True)
class TitleConfig(Settings):
    """The title decoder, a part of the model's settings that has a table of its own."""

    table: ClassVar[str] = "title"

    prompt: str = setting(
        "Chosen so far:\n{history}Chosen next:\n",
        "prompt in which the history is read, with {history} once",
        panel=TITLES,
        only=TITLE_ONLY,
    )
    title_softmax: str = setting(
        "catalog",
        "softmax over the tokens that continue a title of the catalogue, or over the whole vocabulary",
        choices=("catalog", "vocabulary"),
        panel=TITLES,
        only=TITLE_ONLY,
    )
    beams: int = setting(10, "beam width of the search", low=1, panel=TITLES, only=TITLE_ONLY)
    guidance: float = setting(
        0.0,
        "weight of the co-occurrence evidence in the search; the rest is the language model's",
        low=0.0,
        high=1.0,
        panel=TITLES,
        only=TITLE_ONLY,
    )

    def problems(self) -> list[str]:
        """The prompt must have a place for the history."""
        return [] if self.prompt.count("{history}") == 1 else ["--prompt must contain {history} once"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Settings):
    """The shape of the model (docs/method.md)."""

    table: ClassVar[str] = "model"

    backbone: str = setting(
        "smollm2-135m", "causal language model: name of a fetched asset, Hugging Face id, or folder"
    )
    encoding: str = setting(
        "items", "encoding of histories: one position per item, or the titles as text", choices=("items", "text")
    )
    decoder: str = setting(
        "catalog",
        "what is predicted: a score of each item of the catalogue, or the tokens of a title",
        choices=("catalog", "title"),
    )
    n_factors: int | None = setting(4, "number of factors, K; auto: chosen in short trials", low=1, high=64, auto=0)
    layers: int | None = setting(
        2, "read histories with the first N layers of the backbone; auto: all", low=1, auto=0, panel=READING
    )
    item_layers: int | None = setting(
        None, "read titles with the first N layers of the backbone; auto: all", low=1, auto=0, panel=READING
    )
    title_prompt: str = setting(
        "Title: {title}\nCategory:", "prompt in which the backbone reads a title, with {title} once", panel=READING
    )
    title_tokens: int = setting(48, "largest number of tokens of a title, first kept", low=1, panel=READING)
    max_history: int = setting(20, "largest number of history items read, newest kept", low=1, panel=READING)
    max_tokens: int = setting(
        256,
        "largest number of tokens of a history, newest kept",
        low=8,
        panel=READING,
        only=("encoding", ("text",)),
    )
    refine_steps: int = setting(2, "refinement steps of the latent thought, T", low=1, high=16, panel=MODEL)
    latent_tokens: int = setting(1, "latent tokens appended to the history, N", low=0, high=16, panel=MODEL)
    embedding_size: int = setting(512, "width of the item vectors", low=2, panel=MODEL)
    dropout: float = setting(0.1, "dropout rate of the factors", low=0.0, high=0.9, panel=MODEL)
    title: TitleConfig = field(default=TitleConfig(), metadata={"nested": True})
    """Settings of the title decoder; the defaults, and without a meaning, with ``decoder`` catalog."""

    def parts(self) -> list[Settings]:
        """Return this and, for the title decoder, its settings."""
        return [self, self.title] if self.decoder == "title" else [self]

    @property
    def chosen_factors(self) -> int:
        """The number of factors, of a model that is built.

        Raises:
            ValueError: if it is left to training.
        """
        if self.n_factors is None:
            raise ValueError("the number of factors is not chosen yet")
        return self.n_factors

    def with_guidance(self, weight: float | None) -> ModelConfig:
        """Return the settings with another weight of the evidence in the search for titles; None keeps them.

        Raises:
            ConfigError: if there is no search to guide.
        """
        if weight is None:
            return self
        if self.decoder != "title":
            raise ConfigError("--guidance is for runs and bundles of --decoder title")
        return replace(self, title=replace(self.title, guidance=weight))

    def problems(self) -> list[str]:
        """The prompt must have a place for the title, and the title decoder a thought to start from."""
        checks = {
            "--title-prompt must contain {title} once": self.title_prompt.count("{title}") == 1,
            "--decoder title needs --latent-tokens of 1 or more": self.decoder != "title" or self.latent_tokens > 0,
            "the settings in [title] are for --decoder title": self.decoder == "title" or self.title == TitleConfig(),
        }
        return [problem for problem, holds in checks.items() if not holds]


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
        None, "passes over the training rows; auto: 3, or 1 where users have many rows", low=1, auto=0
    )
    batch_size: int = setting(128, "rows per step and device", low=1)
    seed: int = setting(0, "seed of initial weights, order of the rows and dropout", low=0)
    max_steps: int | None = setting(None, "stop after this many steps; auto: no limit", low=1, auto=0, panel=LENGTH)
    patience: int = setting(2, "stop after this many epochs without a better validation NDCG@10", low=1, panel=LENGTH)
    valid_rows: int | None = setting(
        None, "validation rows ranked after each epoch, evenly spaced; auto: all", low=1, auto=0, panel=LENGTH
    )
    sequence_epochs: int = setting(
        4,
        "passes over the users' sequences before the head is trained",
        low=1,
        panel=TUNING,
        only=("tuning", ("auto", "sequences")),
    )
    forecast: float | None = setting(
        None,
        "weight of the backbone's own next-item prediction in the score; auto: chosen on the validation rows",
        low=0.0,
        auto=-1.0,
        panel=TUNING,
        only=("tuning", ("auto", "sequences")),
    )
    lora_rank: int = setting(8, "rank of the LoRA matrices", low=1, panel=TUNING, only=("tuning", ("auto", "lora")))
    backbone_learning_rate: float = setting(
        1e-4,
        "learning rate of the backbone",
        low=0.0,
        panel=TUNING,
        only=("tuning", ("auto", "sequences", "lora", "full")),
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
        "precision of training; auto: bf16 on a GPU that supports it, else fp32",
        choices=("auto", "fp32", "bf16", "fp16"),
        panel=PERFORMANCE,
    )


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
        "what the rewards move: gates, by the rewards of the factors; thought, by those of perturbed thoughts; "
        "auto: gates, with --decoder title thought",
        choices=("auto", "gates", "thought"),
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
    noise: float = setting(
        0.5, "standard deviation of the noise, relative to the thought's root mean square", low=0.0, panel=POLICY
    )
    clip_low: float = setting(0.2, "lower clip of the probability ratio", low=0.0, high=1.0, panel=POLICY)
    clip_high: float = setting(0.28, "upper clip of the probability ratio", low=0.0, panel=POLICY)
    kl: float = setting(0.0, "weight of the KL divergence from the SFT policy", low=0.0, panel=POLICY)
    refresh_steps: int = setting(4, "steps between updates of the sampling policy", low=1, panel=POLICY)
    max_steps: int | None = setting(None, "stop after this many steps; auto: no limit", low=1, auto=0, panel=LENGTH)
    valid_rows: int | None = setting(
        None, "validation rows ranked before and after, evenly spaced; auto: all", low=1, auto=0, panel=LENGTH
    )
    warmup_steps: int = setting(5, "steps of linear warm-up before the cosine schedule", low=0, panel=LENGTH)
    cache_mb: int = setting(
        2048,
        "memory for cached states of the backbone, in MB; larger ones are computed at every step",
        low=0,
        panel=PERFORMANCE,
    )


GUIDANCE_AGAIN = (
    "weight of the co-occurrence evidence in the search of --decoder title; auto: the weight saved in the run or bundle"
)


@dataclass(frozen=True, kw_only=True)
class EvalConfig(Settings):
    """What `flr eval` measures."""

    table: ClassVar[str] = "eval"

    split: str = setting("test", "split whose rows are ranked", choices=("train", "valid", "test"))
    match: str = setting(
        "id",
        "what counts as a hit: the same item, or an item of the same title (as in the papers)",
        choices=("id", "title"),
    )
    allow_seen: bool = setting(False, "keep seen items among the candidates")
    max_rows: int | None = setting(None, "rows to rank, evenly spaced over the split; auto: all", low=1, auto=0)
    guidance: float | None = setting(None, GUIDANCE_AGAIN, low=0.0, high=1.0, auto=-1.0)
    batch_size: int = setting(256, "users ranked at once", low=1)
    bootstrap: int = setting(1000, "bootstrap resamples behind each interval; 0: no intervals", low=0)
    seed: int = setting(0, "seed of the bootstrap", low=0)


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Settings):
    """What `flr export` writes and what it tolerates."""

    table: ClassVar[str] = "export"

    precision: str = setting(
        "int8", "int8: written if it passes the quality gates, else fp32", choices=("int8", "fp32")
    )
    guidance: float | None = setting(None, GUIDANCE_AGAIN, low=0.0, high=1.0, auto=-1.0)
    tolerance: float = setting(1e-3, "largest difference of scores between torch and ONNX fp32", low=0.0, panel=GATES)
    max_ndcg_loss: float = setting(
        0.01,
        "largest relative loss of validation NDCG@10 of int8 against fp32",
        low=0.0,
        panel=GATES,
        only=("precision", ("int8",)),
    )
    min_overlap: float = setting(
        0.95,
        "smallest top-10 overlap of int8 with fp32",
        low=0.0,
        high=1.0,
        panel=GATES,
        only=("precision", ("int8",)),
    )
    max_size: float = setting(
        0.3,
        "largest size of the int8 reader relative to fp32",
        low=0.0,
        panel=GATES,
        only=("precision", ("int8",)),
    )


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(Settings):
    """How a bundle scores a file of histories."""

    table: ClassVar[str] = "score"

    top_k: int = setting(10, "recommendations per user", low=1)
    allow_seen: bool = setting(False, "keep seen items among the recommendations")
    strict: bool = setting(
        False, "stop at the first row that cannot be scored, instead of writing it to the rejects file"
    )
    index: str = setting(
        "exact",
        "rank the whole catalogue, or only items near the user by an approximate index (catalog decoder, extra ann)",
        choices=("exact", "ann"),
        panel=PERFORMANCE,
    )
    threads: int | None = setting(None, "number of cores that score; auto: all", low=1, auto=0, panel=PERFORMANCE)
    batch_size: int = setting(1024, "users read and written at once", low=1, panel=PERFORMANCE)
