"""Settings of what is done with a trained model: evaluation, export, scoring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flr_model.config.settings import COMPARISON, GATES, PERFORMANCE, Settings, setting

GUIDANCE_AGAIN = (
    "weight of the factors' prediction in the search of --decoder title; auto: the weight saved in the run or bundle"
)

BASELINES = ("pop", "cooc", "itemknn", "ease", "als")


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
    segment: str | None = setting(
        None,
        "column of the items file by whose values the targets are divided too; a cell such as Action|Comedy counts "
        "under both; auto: none",
        auto="auto",
    )
    baselines: str = setting(
        "pop,cooc",
        "what to rank beside the model, comma-separated: pop, cooc, itemknn, ease, als; the last three with settings "
        "chosen on the validation rows",
        panel=COMPARISON,
    )
    max_rows: int | None = setting(None, "rows to rank, evenly spaced over the split; auto: all", low=1, auto=0)
    guidance: float | None = setting(None, GUIDANCE_AGAIN, low=0.0, high=1.0, auto=-1.0)
    batch_size: int = setting(256, "users ranked at once", low=1, panel=PERFORMANCE)
    bootstrap: int = setting(1000, "bootstrap resamples behind each interval; 0: no intervals", low=0)
    seed: int = setting(0, "seed of the bootstrap", low=0)

    @property
    def beside(self) -> tuple[str, ...]:
        """The names of the baselines, in order."""
        return tuple(name.strip() for name in self.baselines.split(","))

    def problems(self) -> list[str]:
        """Name baselines that there are not."""
        if not (unknown := [name for name in self.beside if name not in BASELINES]):
            return []
        return [f"--baselines: {', '.join(map(repr, unknown))} is none of {', '.join(BASELINES)}"]


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
        only={"precision": ("int8",)},
    )
    min_overlap: float = setting(
        0.95,
        "smallest top-10 overlap of int8 with fp32",
        low=0.0,
        high=1.0,
        panel=GATES,
        only={"precision": ("int8",)},
    )
    max_size: float = setting(
        0.3,
        "largest size of the int8 reader relative to fp32",
        low=0.0,
        panel=GATES,
        only={"precision": ("int8",)},
    )


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(Settings):
    """How a bundle scores a file of histories."""

    table: ClassVar[str] = "score"

    top_k: int = setting(10, "recommendations per user", low=1)
    allow_seen: bool = setting(False, "keep seen items among the recommendations")
    fallback: str = setting(
        "none",
        "what users get of whose history no item is known, or who have none: popular: the items bought most, marked in "
        "the column source; none: they go to the rejects file",
        choices=("none", "popular"),
    )
    escape_formulas: bool = setting(
        False,
        "put a ' before texts in CSV files that begin with = + - @, a tab or a carriage return, so that no spreadsheet "
        "takes a title for a formula",
    )
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
