"""The settings of every stage, as frozen dataclasses.

Every field is a flag of the command, a key of the TOML file given with ``--config`` (one table per class) and a line
of the effective configuration that is saved with the result. Checks name a field as the flag is spelled.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
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
    auto: int | None = None,
) -> Any:
    """Declare one field: its default, its help text, and the values it may take (bounds inclusive).

    The word ``auto`` on the command line or in a file stands for the number ``auto``, if one is given.
    """
    return field(default=default, metadata={"help": text, "choices": choices, "low": low, "high": high, "auto": auto})


def flag_name(field_name: str) -> str:
    """Spell a field as its flag.

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
        problems = [problem for f in fields(self) if (problem := _problem(f.name, getattr(self, f.name), f.metadata))]
        problems += self.problems()
        if problems:
            raise ConfigError("; ".join(problems), hint="see the flag's range in `--help`")

    def problems(self) -> list[str]:
        """Name what is wrong between fields; a subclass overrides it where fields constrain each other."""
        return []

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for TOML and JSON."""
        return asdict(self)


def _problem(name: str, value: Any, rule: Any) -> str | None:
    choices, low, high = rule["choices"], rule["low"], rule["high"]
    if value != value:
        return f"{flag_name(name)} is {value}, which is no number"
    if choices is not None and value not in choices:
        return f"{flag_name(name)} is {value!r}, not one of {', '.join(choices)}"
    if low is not None and value is not None and value < low:
        return f"{flag_name(name)} is {value}, below {low}"
    if high is not None and value is not None and value > high:
        return f"{flag_name(name)} is {value}, above {high}"
    return None


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(Settings):
    """How raw interactions become rows of histories."""

    table: ClassVar[str] = "prepare"

    split: str = setting(
        "temporal", "global order of time, or each user's last items", choices=("temporal", "leave-one-out")
    )
    valid_fraction: float = setting(0.1, "share of the rows for validation (temporal split)", low=0.0, high=0.9)
    test_fraction: float = setting(0.1, "share of the rows for the test (temporal split)", low=0.0, high=0.9)
    k_core: int = setting(1, "keep users and items with at least this many interactions; 1 keeps all", low=1)
    strict: bool = setting(False, "refuse a file at its first row that cannot be read, instead of leaving it out")
    max_history: int = setting(
        20, "items of history that a row shows, the newest; the others are known as had", low=1, high=10_000
    )

    def problems(self) -> list[str]:
        """The two held-out shares must leave something to train on."""
        if self.valid_fraction + self.test_fraction >= 1:
            return ["--valid-fraction and --test-fraction leave no rows to train on"]
        return []


_OF_ONE = "of one file alone: items=NAME, as in 2,items=1"


@dataclass(frozen=True, kw_only=True)
class FilesConfig(Settings):
    """How the files of interactions, items and histories are read; "auto" finds it from the content."""

    table: ClassVar[str] = "files"

    user_col: str = setting("auto", f"column of the users, by name, or by number where there is no header; {_OF_ONE}")
    item_col: str = setting("auto", "column of the items")
    time_col: str = setting("auto", "column of the times")
    title_col: str = setting("auto", "column of the titles")
    history_col: str = setting("auto", "column of the lists of a ready-made split")
    history_time_col: str = setting("auto", "column of the lists of their times")
    time: bool = setting(True, "there are times; without them rows count as ordered, oldest first")
    time_format: str = setting(
        "auto", "seconds, milliseconds, yyyymmdd, excel, day-first, month-first, or a pattern such as %d.%m.%y"
    )
    encoding: str = setting("auto", "of text, for instance cp1251; of one file alone: items=cp1251")
    delimiter: str = setting("auto", "of text: any characters, or tab or space; of one file alone: items=tab")
    header: bool = setting(True, "the first line names the columns; without: only where flr knows one of its names")

    def problems(self) -> list[str]:
        """Formats and encodings must exist."""
        problems = []
        if self.time_format not in ("auto", *TIME_FORMATS) and "%" not in self.time_format:
            problems.append(
                f"--time-format is {self.time_format!r}, not one of auto, {', '.join(TIME_FORMATS)}; nor a %-pattern"
            )
        for name in self.encoding.replace("=", ",").split(",")[-1:]:
            try:
                "".encode("utf-8" if name == "auto" else name)
            except LookupError:
                problems.append(f"--encoding is {name!r}, which Python does not know")
        return problems


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Settings):
    """The shape of the model (design: docs/method.md)."""

    table: ClassVar[str] = "model"

    backbone: str = setting("smollm2-135m", "fetched asset, Hugging Face id or folder of a causal LM")
    layers: int = setting(2, "layers of the backbone that read a history, the first N; 0 keeps all", low=0)
    item_layers: int = setting(0, "layers of the backbone that read a title, the first N; 0 keeps all", low=0)
    title_prompt: str = setting("Title: {title}\nCategory:", "what the backbone reads of an item; {title} stands in it")
    encoding: str = setting("items", "one position per item, or the titles as text", choices=("items", "text"))
    decoder: str = setting(
        "catalog", "what becomes of the thought: scores of items, or a title to write", choices=("catalog", "title")
    )
    n_factors: int = setting(4, "K, the number of factors; auto: chosen by short trials", low=0, high=64, auto=0)
    refine_steps: int = setting(2, "T, how often the thought is refined", low=1, high=16)
    latent_tokens: int = setting(1, "N, latent tokens appended to the history", low=0, high=16)
    embedding_size: int = setting(512, "width of the item vectors", low=2)
    dropout: float = setting(0.1, "dropout on the factors", low=0.0, high=0.9)
    max_history: int = setting(20, "items of a history that the model reads, newest kept", low=1)
    max_tokens: int = setting(256, "tokens of a history with --encoding text, newest kept", low=8)
    title_tokens: int = setting(48, "tokens of one title, the first kept", low=1)
    prompt: str = setting(
        "Chosen so far:\n{history}Chosen next:\n", "what --decoder title reads; {history} stands in it"
    )
    beams: int = setting(10, "beams of the search of --decoder title", low=1)
    length_penalty: float = setting(
        0.0, "--decoder title: log-likelihoods are divided by the number of choices to this power", low=0.0
    )
    guidance: float = setting(
        0.0,
        "--decoder title: weight of the evidence in the search, the rest is the language model's",
        low=0.0,
        high=1.0,
    )

    def problems(self) -> list[str]:
        """The prompts must have their places, and the title decoder a thought to write from."""
        checks = {
            "--title-prompt must hold {title} once": self.title_prompt.count("{title}") == 1,
            "--prompt must hold {history} once": self.prompt.count("{history}") == 1,
            "--decoder title needs --latent-tokens of 1 or more": self.decoder != "title" or self.latent_tokens > 0,
        }
        return [problem for problem, holds in checks.items() if not holds]


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Settings):
    """Supervised fine-tuning."""

    table: ClassVar[str] = "train"

    tuning: str = setting(
        "auto",
        "what of the backbone learns: the trunk on whole sequences before the head, nothing, or low-rank additions or "
        "all of the trunk with the head; auto: see docs/method.md",
        choices=("auto", "sequences", "frozen", "lora", "full"),
    )
    sequence_epochs: int = setting(4, "passes over the sequences with --tuning sequences", low=1)
    forecast: float = setting(
        -1.0,
        "weight of the trunk's own forecast of the next item beside the head, with --tuning sequences; "
        "-1: chosen on the validation rows",
        low=-1.0,
    )
    lora_rank: int = setting(8, "rank of the LoRA matrices", low=1)
    epochs: int = setting(
        0, "passes over the training rows; auto: by the rows of a user, see docs/method.md", low=0, auto=0
    )
    max_steps: int = setting(0, "stop after this many steps; 0: by --epochs", low=0)
    valid_rows: int = setting(0, "validation rows to rank after each epoch, evenly spaced; 0: all", low=0)
    batch_size: int = setting(128, "rows per step and device", low=1)
    grad_accumulation: int = setting(1, "steps whose gradients are summed", low=1)
    learning_rate: float = setting(1e-3, "of the item maps", low=0.0)
    residual_learning_rate: float = setting(5e-4, "of what single items learn beyond their titles", low=0.0)
    reasoner_learning_rate: float = setting(3e-5, "of the reasoner and what the thought says of items", low=0.0)
    scalar_learning_rate: float = setting(2e-2, "of the head's slopes, scales and kernels", low=0.0)
    backbone_learning_rate: float = setting(1e-4, "of the backbone (LoRA or full)", low=0.0)
    weight_decay: float = setting(0.01, "of matrices; scalars have none", low=0.0)
    warmup_steps: int = setting(50, "steps of linear warm-up before the cosine", low=0)
    patience: int = setting(2, "epochs without a better validation NDCG@10 before stopping", low=1)
    orthogonality: float = setting(0.01, "weight of the factors' squared cosines", low=0.0)
    diversity: float = setting(0.1, "weight of the cosines of the factors' attentions", low=0.0)
    sparsity: float = setting(0.05, "weight of the gates' entropy", low=0.0)
    title_softmax: str = setting(
        "catalog",
        "--decoder title: a token competes with the continuations that the catalogue has, or with the whole vocabulary",
        choices=("catalog", "vocabulary"),
    )
    negatives: int = setting(4096, "sampled negatives per step above --full-softmax-items", low=1)
    full_softmax_items: int = setting(50_000, "largest catalogue trained with the full softmax", low=1)
    precision: str = setting(
        "auto", "auto: bf16 on a GPU that has it, else fp32", choices=("auto", "fp32", "bf16", "fp16")
    )
    seed: int = setting(0, "of initial weights, order and dropout", low=0)


@dataclass(frozen=True, kw_only=True)
class AlignConfig(Settings):
    """Latent group-relative policy optimisation."""

    table: ClassVar[str] = "align"

    reward: str = setting(
        "auto",
        "of the true next item: log-probability, NDCG of its rank, or minus the perplexity of its title; "
        "auto: logprob for --decoder catalog, perplexity for title, which has no other",
        choices=("auto", "logprob", "ndcg", "perplexity"),
    )
    advantage: str = setting(
        "group",
        "baseline: the unperturbed rewards of the batch, of its targets of like popularity, or the own group",
        choices=("batch", "popularity", "group"),
    )
    group_size: int = setting(8, "G, latent samples per user; the first is unperturbed", low=2)
    noise: float = setting(0.5, "sigma, in units of the thought's root mean square", low=0.0)
    clip_low: float = setting(0.2, "the ratio's lower clip", low=0.0, high=1.0)
    clip_high: float = setting(0.28, "the ratio's upper clip", low=0.0)
    kl: float = setting(0.0, "weight of the KL divergence to the SFT policy", low=0.0)
    refresh_steps: int = setting(4, "steps between renewals of the policy that samples", low=1)
    epochs: int = setting(1, "passes over the training rows", low=1)
    max_rows: int = setting(3_000, "training rows to align on, the newest; 0 takes all", low=0)
    max_steps: int = setting(0, "stop after this many steps; 0: by --epochs", low=0)
    valid_rows: int = setting(0, "validation rows to rank before and after, evenly spaced; 0: all", low=0)
    batch_size: int = setting(256, "users per step", low=1)
    learning_rate: float = setting(3e-4, "of the reasoner and the latent map", low=0.0)
    warmup_steps: int = setting(5, "steps of linear warm-up before the cosine", low=0)
    cache_mb: int = setting(2048, "memory for the backbone's states; above it they are computed at every step", low=0)
    seed: int = setting(0, "of order and noise", low=0)


GUIDANCE_AGAIN = "--decoder title: weight of the evidence in the search; -1: as the run or bundle says"


@dataclass(frozen=True, kw_only=True)
class EvalConfig(Settings):
    """What `flr eval` measures."""

    table: ClassVar[str] = "eval"

    split: str = setting("test", "rows to rank", choices=("train", "valid", "test"))
    match: str = setting("id", "a hit is the same item, or an item of the same title (papers)", choices=("id", "title"))
    allow_seen: bool = setting(False, "leave items of the history among the candidates")
    guidance: float = setting(-1.0, GUIDANCE_AGAIN, low=-1.0, high=1.0)
    max_rows: int = setting(0, "rows to rank, evenly spaced over the split; 0: all", low=0)
    batch_size: int = setting(256, "users ranked at once", low=1)
    bootstrap: int = setting(1000, "resamples behind each interval", low=0)
    seed: int = setting(0, "of the bootstrap", low=0)


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Settings):
    """What `flr export` writes and what it tolerates."""

    table: ClassVar[str] = "export"

    precision: str = setting(
        "int8", "int8 is written when it passes the gate below, else fp32", choices=("int8", "fp32")
    )
    guidance: float = setting(-1.0, GUIDANCE_AGAIN, low=-1.0, high=1.0)
    tolerance: float = setting(1e-3, "largest difference of scores between torch and ONNX fp32", low=0.0)
    max_ndcg_loss: float = setting(0.01, "largest relative loss of validation NDCG@10 of int8 against fp32", low=0.0)
    min_overlap: float = setting(0.95, "smallest top-10 overlap of int8 with fp32", low=0.0, high=1.0)
    max_size: float = setting(0.3, "largest size of the int8 reader, as a share of the fp32 one", low=0.0)


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(Settings):
    """How a bundle scores a file of histories."""

    table: ClassVar[str] = "score"

    top_k: int = setting(10, "recommendations per user", low=1)
    allow_seen: bool = setting(False, "leave items of the history among the recommendations")
    batch_size: int = setting(1024, "users read, and written, at once", low=1)
    threads: int = setting(0, "users are scored on so many cores; 0: all", low=0)
    index: str = setting(
        "exact", "ann: look at the items near a user only (--decoder catalog, extra `ann`)", choices=("exact", "ann")
    )
    strict: bool = setting(False, "stop at the first row that cannot be scored instead of writing it to the rejects")
