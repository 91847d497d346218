"""A bundle folder: everything that scoring needs, on any machine, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from flr_export.item_encoder import item_encoder_files
from flr_model.artifacts import BUNDLE, Manifest, open_folder
from flr_model.config import ModelConfig
from flr_model.config_io import model_config
from flr_model.errors import ArtifactError, ConfigError

TITLE_WRITER, TITLE_TREE, TITLE_HEAD = "title_writer.onnx", "title_tree.npz", "title_head.npy"
"""What a bundle of the `title` decoder has besides: the graph that writes, the prefix tree, the output embeddings."""


class Place(IntEnum):
    """What stands at a place that `title_writer.onnx` reads."""

    TOKEN, ITEM, LATENT = range(3)


AGAIN = BUNDLE.again


@dataclass(frozen=True)
class Bundle:
    """A bundle folder, opened; no array or graph is loaded yet.

    Args:
        folder: where it lies.
        manifest: what it says of itself; ``content`` names the graphs and the dataset, and has what was measured.
        model: the shape of the exported model.
        reader: the graph that reads histories, in the precision that the export chose.
    """

    folder: Path
    manifest: Manifest
    model: ModelConfig
    reader: Path

    @classmethod
    def open(cls, folder: Path) -> Bundle:
        """Open a folder written by `flr export --onnx`.

        Raises:
            ArtifactError: if it is not a complete bundle, or its manifest lacks the model or means a missing file.
        """
        manifest = open_folder(folder, "bundle")
        try:
            model = model_config(manifest.settings)
        except ConfigError as error:
            message = f"the manifest of {folder} has no usable [model] settings: {error}"
            raise ArtifactError(message, hint=AGAIN) from None
        names = [name for of_reader in item_encoder_files(model) for name in (of_reader.graph, of_reader.tokenizer)]
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise ArtifactError(f"{folder} lacks {', '.join(missing)}, by which new titles are read", hint=AGAIN)
        files = manifest.content.get("files", {})
        return cls(
            folder,
            manifest,
            model,
            reader=_graph(folder, files.get("reader", "reader.onnx")),
        )


def _graph(folder: Path, name: Any) -> Path:
    """Find a graph that the manifest names; only files of the folder itself count."""
    if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
        raise ArtifactError(f"the manifest of {folder} names the graph {name!r}, which is not there", hint=AGAIN)
    return folder / name
