"""A prepared dataset folder: the catalogue and the rows of three splits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from flr_model.artifacts import DATASET, Manifest, fingerprint, open_folder, reading
from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD, HistoryRows, OlderItems
from flr_model.errors import ArtifactError

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")

EARLIER = "earlier.npz"

AGAIN = "prepare it again with `flr prepare`"


@dataclass(frozen=True)
class Dataset:
    """A dataset folder, opened; rows are read when asked for.

    Args:
        folder: where it lies.
        catalog: its items.
        manifest: its settings and its data report (``content["report"]``).
    """

    folder: Path
    catalog: Catalog
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path) -> Dataset:
        """Open a folder written by `flr prepare`.

        Raises:
            ArtifactError: if it is not a complete and undamaged dataset.
        """
        manifest = open_folder(folder, "dataset")
        with reading(folder / "items.parquet", AGAIN):
            return cls(folder, Catalog.read(folder / "items.parquet"), manifest)

    @classmethod
    def of(cls, made_from: Manifest, override: Path | None = None) -> Dataset:
        """Open the dataset that a run or bundle was made from.

        Args:
            made_from: manifest of the run or bundle; its content names the "dataset" and "dataset_fingerprint".
            override: the folder to open instead of the named one, which may have moved; other content than at the
                time is then only warned of.

        Raises:
            ArtifactError: if the named folder is gone or its content has changed.
        """
        hint = "pass the dataset folder with --data"
        folder = override or Path(made_from.content.get("dataset") or "")
        if override is None and not made_from.content.get("dataset"):
            raise ArtifactError(f"the {made_from.kind} does not say which dataset it was made from", hint=hint)
        if override is None and not folder.is_dir():
            raise ArtifactError(f"the dataset {folder} that the {made_from.kind} was made from is gone", hint=hint)
        dataset = cls.open(folder)
        if dataset.fingerprint() != made_from.content.get("dataset_fingerprint"):
            if override is None:
                raise ArtifactError(f"{folder} has changed since the {made_from.kind} was made from it", hint=hint)
            logger.warning("%s is not the content that the %s was made from", folder, made_from.kind)
        return dataset

    @property
    def unordered(self) -> bool:
        """Whether a user's interactions of one moment have no order: it was drawn at random."""
        return bool(self.manifest.settings.get("prepare", {}).get("tie_order") == "random")

    def rows(self, split: str) -> HistoryRows:
        """Return the rows of "train", "valid" or "test".

        Raises:
            ArtifactError: if their files cannot be read, or name items that are not there.
        """
        path = self.folder / f"{split}.parquet"
        with reading(path, AGAIN):
            rows = HistoryRows.read(path)
        with reading(self.folder / EARLIER, AGAIN), np.load(self.folder / EARLIER, allow_pickle=False) as arrays:
            earlier = OlderItems(*(arrays[f"{split}_{field.name}"] for field in fields(OlderItems)))
        whole = replace(rows, older=earlier)
        for items, lowest in ((whole.items, 0), (earlier.items, 0), (whole.target, PAD)):
            if len(items) and not lowest <= items.min() <= items.max() < len(self.catalog):
                raise ArtifactError(f"{path} has items that the {len(self.catalog)} of the dataset lack", hint=AGAIN)
        if len(earlier.start) != len(rows) or (earlier.stop > len(earlier.items)).any():
            raise ArtifactError(f"{self.folder / EARLIER} does not fit {path.name}", hint=AGAIN)
        return whole

    def fingerprint(self) -> str:
        """Identify the content: equal for copies of the folder."""
        return fingerprint(self.folder, DATASET.files)


def write_rows(folder: Path, splits: Mapping[str, HistoryRows]) -> None:
    """Write the rows of every split, and apart from them what their users had before, which many rows share."""
    earlier: dict[str, Any] = {}
    for split, rows in splits.items():
        rows.write(folder / f"{split}.parquet")
        arrays = vars(rows.older or OlderItems.empty(len(rows)))
        earlier |= {f"{split}_{name}": array for name, array in arrays.items()}
    np.savez_compressed(folder / EARLIER, **earlier)
