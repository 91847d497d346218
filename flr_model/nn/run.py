"""Run folders: what `flr train` and `flr align` write, and what evaluation, alignment and export read.

A run holds: config.toml, items.parquet, item_vectors.npy (M, D), evidence.npz, head.safetensors (all that flr adds to
the language models), backbone/ (the trunk with tokenizer.json), what made the item vectors (item_backbone/, a language
model whose layers are not the trunk's; item_reader_1/ and so on, sentence encoders), and what its head adds: for one
that writes titles title_tree.npz and writer/, the language model that writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from flr_model.artifacts import RUN, Manifest, open_folder, reading
from flr_model.config import BACKBONE, ModelConfig
from flr_model.config_io import model_config, read_tables
from flr_model.data.catalog import Catalog
from flr_model.errors import ArtifactError
from flr_model.nn.backbone import Backbone, Trunk, load_backbone, load_lm
from flr_model.nn.build import WritingModel, build_model
from flr_model.nn.device import best_device, writes_in_bf16
from flr_model.nn.head import Head, RankingParts
from flr_model.nn.item_encoder import ItemEncoder
from flr_model.nn.item_readers import load_reader
from flr_model.nn.model import FactorizedModel
from flr_model.nn.title_head import WRITER
from flr_model.ranking.evidence import Evidence
from flr_model.ranking.recommender import Recommender
from flr_model.titles.tokens import TitleTokenizer, reader_tokenizer

ITEM_BACKBONE = "item_backbone"


def reader_folders(config: ModelConfig) -> list[str]:
    """Return the folders of what reads titles, in order."""
    return [
        ITEM_BACKBONE if name == BACKBONE else f"item_reader_{number}" for number, name in enumerate(config.readers)
    ]


@dataclass
class Run:
    """The parts of a run, in memory.

    Args:
        config: shape of the model.
        catalog: M items.
        backbone: the trunk and its tokenizer file.
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
        (folder / "config.toml").write_text(config_toml, encoding="utf-8")
        self.catalog.write(folder / "items.parquet")
        np.save(folder / "item_vectors.npy", self.vectors)
        self.evidence.write(folder / "evidence.npz")
        self.head.write_files(folder)
        self.backbone.save(folder / "backbone")
        for name, reader in zip(reader_folders(self.config), self.item_encoder.readers, strict=True):
            reader.save(folder / name)
        parts = {"model": self.model, "head": self.head, "item_encoder": self.item_encoder}
        state = {f"{part}.{name}": value for part, m in parts.items() for name, value in m.state_dict().items()}
        own = {name: value.contiguous().cpu() for name, value in state.items() if ".lm." not in name}
        save_file(own, folder / "head.safetensors")
        self.manifest.write(folder)


def load_run(folder: Path) -> Run:
    """Open a run folder.

    Raises:
        ArtifactError: if it is not a complete and undamaged run.
    """
    manifest = open_folder(folder, "run")
    with reading(folder / "config.toml", RUN.again):
        config = model_config(read_tables(folder / "config.toml"))
    backbone = load_backbone(str(folder / "backbone"))
    with reading(folder / "head.safetensors", RUN.again):
        state: dict[str, Any] = load_file(folder / "head.safetensors")
    tokenizer = title_tokenizer(backbone, config)
    catalog, vectors, evidence = _read_items(folder, config)
    network = build_model(
        config,
        Trunk(backbone.lm),
        tokenizer,
        n_lags=len(evidence.lag_bounds) + 1,
        unordered=evidence.unordered,
        writing_model=lambda: WritingModel(
            Trunk(load_lm(str(folder / WRITER), what="writer")), state.get("head.writer.untied")
        ),
    )
    network.head.read_files(folder, n_items=len(catalog))
    item_encoder = build_item_encoder(config, [str(folder / name) for name in reader_folders(config)])
    _restore(network.model, state, "model.")
    _restore(network.head, state, "head.")
    _restore(item_encoder, state, "item_encoder.")
    if network.head.writer is not None:
        network.head.writer.encoder.trunk.bf16 = writes_in_bf16()
    return Run(
        config=config,
        catalog=catalog,
        backbone=backbone,
        model=network.model.eval().requires_grad_(False),
        head=network.head.eval().requires_grad_(False),
        item_encoder=item_encoder.eval().requires_grad_(False),
        vectors=vectors,
        evidence=evidence,
        manifest=manifest,
    )


def _read_items(folder: Path, config: ModelConfig) -> tuple[Catalog, npt.NDArray[np.float32], Evidence]:
    """Read all that a run holds by item, and check that it is of the same items."""
    with reading(folder / "items.parquet", RUN.again):
        catalog = Catalog.read(folder / "items.parquet")
    with reading(folder / "item_vectors.npy", RUN.again):
        # Mapped first: a header that promises too much takes no memory.
        vectors = np.array(np.load(folder / "item_vectors.npy", mmap_mode="r", allow_pickle=False))
    with reading(folder / "evidence.npz", RUN.again):
        evidence = Evidence.read(folder / "evidence.npz")
    sizes = {"item vectors": len(vectors), "evidence": evidence.n_items}
    if wrong := [f"{name} of {size}" for name, size in sizes.items() if size != len(catalog)]:
        raise ArtifactError(f"{folder} has {len(catalog)} items, but {', '.join(wrong)}", hint=RUN.again)
    if vectors.shape[1:] != (config.embedding_size,):
        raise ArtifactError(f"{folder / 'item_vectors.npy'} does not fit config.toml: {vectors.shape}", hint=RUN.again)
    return catalog, vectors, evidence


def title_tokenizer(backbone: Backbone, config: ModelConfig) -> TitleTokenizer:
    """Return the tokenizer of titles that a backbone and a configuration ask for."""
    return reader_tokenizer(backbone.tokenizer_json, BACKBONE, config)


def build_item_encoder(config: ModelConfig, places: Sequence[str] | None = None) -> ItemEncoder:
    """Load the readers of titles, and build an item encoder whose whitening is not fitted yet.

    Args:
        config: names the readers.
        places: where each of them lies; None takes what the configuration names.

    Raises:
        ArtifactError: if a reader is not to be had here.
        ConfigError: if the readers cannot do what the configuration asks for.
    """
    if places is None:
        places = [config.backbone if name == BACKBONE else name for name in config.readers]
    readers = [load_reader(name, place, config) for name, place in zip(config.readers, places, strict=True)]
    return ItemEncoder(readers, config.embedding_size)


def load_recommender(folder: Path, *, guidance: float | None = None) -> Recommender:
    """Open a run folder for ranking, on the GPU where there is one.

    Args:
        folder: of the run.
        guidance: weight of the factors in the search for titles; None takes the run's.

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
