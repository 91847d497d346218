"""The shape of the model."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import ClassVar

from flr_model.config.settings import MODEL, READING, TITLE_ONLY, TITLES, Settings, setting
from flr_model.errors import ConfigError

FEW_LAYERS = 2
"""Of the backbone that read histories."""

BACKBONE = "backbone"
"""In ``item_readers``: the backbone itself."""


@dataclass(frozen=True, kw_only=True)
class TitleConfig(Settings):
    """The title decoder, a part of the model's settings that has a table of its own."""

    table: ClassVar[str] = "title"

    prompt: str = setting(
        "So far:\n{history}Next:\n",
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
    writer_layers: int | None = setting(
        None,
        "write with the first N layers of the backbone; auto: all",
        low=1,
        auto=0,
        panel=TITLES,
        only=TITLE_ONLY,
    )
    beams: int = setting(10, "beam width of the search", low=1, panel=TITLES, only=TITLE_ONLY)
    guidance: float | None = setting(
        None,
        "weight of the factors' prediction in the search, the rest is the language model's; 1: the "
        "factors alone; auto: chosen on validation rows at the end of training",
        low=0.0,
        high=1.0,
        auto=-1.0,
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
        None,
        "read histories with the first N layers of the backbone; auto: 2",
        low=1,
        auto=0,
        panel=READING,
    )
    item_layers: int | None = setting(
        None, "read titles with the first N layers of the backbone; auto: all", low=1, auto=0, panel=READING
    )
    item_readers: str | None = setting(
        None,
        "what reads an item's title, comma-separated: backbone, and sentence encoders by name of a fetched asset, "
        "Hugging Face id, or folder; auto: backbone, and minilm where it was fetched",
        auto="auto",
        panel=READING,
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
        only={"encoding": ("text",)},
    )
    refine_steps: int = setting(2, "refinement steps of the latent thought, T", low=1, high=16, panel=MODEL)
    latent_tokens: int = setting(1, "latent tokens appended to the history, N", low=0, high=16, panel=MODEL)
    embedding_size: int = setting(512, "width of the item vectors", low=2, panel=MODEL)
    dropout: float = setting(0.1, "dropout rate of the factors", low=0.0, high=0.9, panel=MODEL)
    title: TitleConfig = field(default=TitleConfig(), metadata={"nested": True})
    """Settings of the title decoder; the defaults, and without a meaning, with ``decoder`` catalog."""

    @property
    def readers(self) -> tuple[str, ...]:
        """The names of what reads titles, in order; none where it is left to training."""
        return tuple(name.strip() for name in self.item_readers.split(",")) if self.item_readers is not None else ()

    def parts(self) -> list[Settings]:
        """Return this and, for the title decoder, its settings."""
        return [self, self.title] if self.decoder == "title" else [self]

    @property
    def layers_read(self) -> int:
        """The number of layers that read histories: few do so as well as all (docs/results.md)."""
        return FEW_LAYERS if self.layers is None else self.layers

    @property
    def chosen_factors(self) -> int:
        """The number of factors, of a model that is built.

        Raises:
            ValueError: if it is left to training.
        """
        if self.n_factors is None:
            raise ValueError("the number of factors is not chosen yet")
        return self.n_factors

    @property
    def guidance_open(self) -> bool:
        """Whether there is a search to guide, and the weight of its guide is left to training."""
        return self.decoder == "title" and self.title.guidance is None

    def with_guidance(self, weight: float | None) -> ModelConfig:
        """Return the settings with another weight of the factors in the search for titles; None keeps them.

        Raises:
            ConfigError: if there is no search to guide.
        """
        if weight is None:
            return self
        if self.decoder != "title":
            raise ConfigError("--guidance is for runs and bundles of --decoder title")
        return replace(self, title=replace(self.title, guidance=weight))

    def problems(self) -> list[str]:
        """The prompt must have a place for the title, and settings must have a meaning."""
        foreign = [place for place in re.findall(r"\{\w+\}", self.title_prompt) if place != "{title}"]
        checks = {
            f"--title-prompt has {', '.join(foreign)}, but knows {{title}} alone; columns of the items file are for "
            "--item-text of `flr prepare`": not foreign,
            "--item-readers must name each reader once": all(self.readers)
            and len(set(self.readers)) == len(self.readers),
            "--title-prompt must contain {title} once": self.title_prompt.count("{title}") == 1,
            "the settings in [title] are for --decoder title": self.decoder == "title" or self.title == TitleConfig(),
        }
        return [problem for problem, holds in checks.items() if not holds]
