"""Run folders: what `flr train` and `flr align` write, and what evaluation, alignment and export read.

A run holds: config.toml, items.parquet, item_vectors.npy (M, D), evidence.npz, head.safetensors (all that flr adds to
the language model), backbone/ (the trunk with tokenizer.json) and item_backbone/ (the language model that made the item
vectors; its layers are not the trunk's), and what its head adds: title_tree.npz for one that writes titles.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from flr_model.artifacts import Manifest, open_folder
from flr_model.config import ModelConfig
from flr_model.config_io import build, read_tables
from flr_model.data.catalog import Catalog
from flr_model.errors import ArtifactError
from flr_model.nn.backbone import Backbone, Trunk, best_device, load_backbone
from flr_model.nn.build import build_model
from flr_model.nn.head import Head, RankingParts
from flr_model.nn.item_encoder import ItemEncoder
from flr_model.nn.model import FactorizedModel
from flr_model.ranking.evidence import Evidence
from flr_model.ranking.recommender import Recommender
from flr_model.titles.tokens import TitleTokenizer

ITEM_BACKBONE = "item_backbone"


@dataclass
class Run:
    """The parts of a run, in memory.

    Args:
        config: shape of the model.
        catalog: M items.
        backbone: the trunk and its tokenizer file.
        item_backbone: the language model that made the item vectors.
        model: from histories to thoughts.
        head: what becomes of a thought.
        item_encoder: titles to item vectors.
        vectors: (M, D) scaled item vectors.
        evidence: baked, for scoring.
        manifest: settings and content.
    """

    config: ModelConfig
    catalog: Catalog
    backbone: Backbone
    item_backbone: Backbone
    model: FactorizedModel
    head: Head
    item_encoder: ItemEncoder
    vectors: npt.NDArray[np.float32]
    evidence: Evidence
    manifest: Manifest

    def tokenizer(self) -> TitleTokenizer:
        """Return the tokenizer of titles."""
        return title_tokenizer(self.backbone, self.config)

    def recommender(self) -> Recommender:
        """Return what ranks, with torch behind it."""
        return self.head.recommender(self.ranking_parts())

    def ranking_parts(self) -> RankingParts:
        """Return what ranks, for a head to put together."""
        return RankingParts(
            model=self.model,
            item_encoder=self.item_encoder,
            tokenizer=self.tokenizer(),
            config=self.config,
            catalog=self.catalog,
            vectors=self.vectors,
            evidence=self.evidence,
        )

    def write(self, folder: Path, config_toml: str) -> None:
        """Write all files of a run into an existing folder."""
        self.manifest.write(folder)
        (folder / "config.toml").write_text(config_toml, encoding="utf-8")
        self.catalog.write(folder / "items.parquet")
        np.save(folder / "item_vectors.npy", self.vectors)
        self.evidence.write(folder / "evidence.npz")
        self.head.write_files(folder)
        self.backbone.save(folder / "backbone")
        self.item_backbone.save(folder / ITEM_BACKBONE)
        parts = {"model": self.model, "head": self.head, "item_encoder": self.item_encoder}
        state = {f"{part}.{name}": value for part, m in parts.items() for name, value in m.state_dict().items()}
        own = {name: value.contiguous().cpu() for name, value in state.items() if ".lm." not in name}
        save_file(own, folder / "head.safetensors")


def load_run(folder: Path) -> Run:
    """Open a run folder.

    Raises:
        ArtifactError: if it is not a complete run.
    """
    manifest = open_folder(folder, "run")
    config = build(ModelConfig, read_tables(folder / "config.toml").get("model", {}))
    backbone = load_backbone(str(folder / "backbone"))
    item_backbone = load_backbone(str(folder / ITEM_BACKBONE))
    state: dict[str, Any] = load_file(folder / "head.safetensors")
    tokenizer = title_tokenizer(backbone, config)
    evidence = Evidence.read(folder / "evidence.npz")
    network = build_model(
        config,
        Trunk(backbone.lm),
        tokenizer,
        n_lags=len(evidence.lag_bounds) + 1,
        output_embeddings=lambda: state.get("head.decoder.untied"),
    )
    network.head.read_files(folder)
    item_encoder = build_item_encoder(item_backbone, tokenizer, config)
    _restore(network.model, state, "model.")
    _restore(network.head, state, "head.")
    _restore(item_encoder, state, "item_encoder.")
    return Run(
        config=config,
        catalog=Catalog.read(folder / "items.parquet"),
        backbone=backbone,
        item_backbone=item_backbone,
        model=network.model.eval().requires_grad_(False),
        head=network.head.eval().requires_grad_(False),
        item_encoder=item_encoder.eval().requires_grad_(False),
        vectors=np.load(folder / "item_vectors.npy", allow_pickle=False),
        evidence=evidence,
        manifest=manifest,
    )


def title_tokenizer(backbone: Backbone, config: ModelConfig) -> TitleTokenizer:
    """Return the tokenizer of titles that a backbone and a configuration ask for."""
    return TitleTokenizer(backbone.tokenizer_json, title_tokens=config.title_tokens, prompt=config.title_prompt)


def build_item_encoder(backbone: Backbone, tokenizer: TitleTokenizer, config: ModelConfig) -> ItemEncoder:
    """Build an item encoder whose whitening is not fitted yet."""
    return ItemEncoder(
        backbone.lm, config.embedding_size, n_prefix=len(tokenizer.prefix), n_suffix=len(tokenizer.suffix)
    )


def load_recommender(folder: Path, *, guidance: float | None = None) -> Recommender:
    """Open a run folder for ranking, on the GPU where there is one.

    Args:
        folder: of the run.
        guidance: weight of the evidence in the search for titles; None takes the run's.

    Raises:
        ArtifactError: if it is not a complete run.
        ConfigError: if a guidance is given and there is no search to guide.
    """
    run = load_run(folder)
    run.config = run.config.with_guidance(guidance)
    run.model.to(best_device())
    run.head.to(best_device())
    return run.recommender()


def _part(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _restore(module: torch.nn.Module, state: dict[str, torch.Tensor], prefix: str) -> None:
    """Load a module's own weights; those of its language model come from the backbone folder."""
    try:
        missing, unexpected = module.load_state_dict(_part(state, prefix), strict=False)
    except RuntimeError as error:  # a tensor of another shape
        raise ArtifactError(
            f"head.safetensors does not fit config.toml: {str(error).splitlines()[-1].strip()}",
            hint="train the run again",
        ) from None
    wrong = [name for name in missing if ".lm." not in f".{name}"] + list(unexpected)
    if wrong:
        raise ArtifactError(
            f"head.safetensors does not fit config.toml: {', '.join(wrong)}", hint="train the run again"
        )
