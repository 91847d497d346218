"""The folders flr writes: which files each kind holds, its manifest, and how a folder comes into being whole.

A folder is written beside its place under a temporary name and moved there when complete, so a killed command leaves
the old folder or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flr_model import __version__
from flr_model.errors import ArtifactError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Layout:
    """The files one kind of folder must hold.

    Args:
        kind: written in the manifest: dataset, run or bundle.
        files: names of required files, relative to the folder.
        made_by: the command that writes such a folder, for messages.
    """

    kind: str
    files: tuple[str, ...]
    made_by: str

    def missing(self, folder: Path) -> list[str]:
        """Name the required files that the folder lacks."""
        return [name for name in (MANIFEST, *self.files) if not (folder / name).exists()]


DATASET = Layout(
    "dataset", ("items.parquet", "train.parquet", "valid.parquet", "test.parquet", "earlier.npz"), "flr prepare"
)
RUN = Layout(
    "run",
    (
        "config.toml",
        "items.parquet",
        "item_vectors.npy",
        "evidence.npz",
        "head.safetensors",
        "backbone/config.json",
        "item_backbone/config.json",
    ),
    "flr train",
)
BUNDLE = Layout(
    "bundle",
    ("items.parquet", "item_vectors.npy", "evidence.npz", "reader.onnx", "item_encoder.onnx", "tokenizer.json"),
    "flr export --onnx",
)
LAYOUTS = {layout.kind: layout for layout in (DATASET, RUN, BUNDLE)}


@dataclass
class Manifest:
    """What a folder says of itself.

    Args:
        kind: dataset, run or bundle.
        settings: the effective configuration, one dictionary per table.
        content: figures and facts of this kind (counts, metrics, parity), JSON values only.
        source: the folder this one was made from, as a path at the time.
    """

    kind: str
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    content: dict[str, Any] = field(default_factory=dict)
    source: str | None = None

    def write(self, folder: Path) -> None:
        """Write the manifest into the folder."""
        body = {
            "kind": self.kind,
            "format_version": FORMAT_VERSION,
            "flr_version": __version__,
            "settings": self.settings,
            "content": self.content,
            "source": self.source,
        }
        (folder / MANIFEST).write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def open_folder(folder: Path, *kinds: str) -> Manifest:
    """Read the manifest of a folder and check that it is complete and of one of the wanted kinds.

    Raises:
        ArtifactError: if it is missing, of another kind, of a newer format, or lacks a file.
    """
    body = _read_body(folder)
    wanted = " or ".join(kinds)
    if body["kind"] not in kinds:
        raise ArtifactError(
            f"{folder} is a {body['kind']}, this command wants a {wanted}",
            hint=" or ".join(f"make one with `{LAYOUTS[kind].made_by}`" for kind in kinds),
        )
    if body["format_version"] > FORMAT_VERSION:
        raise ArtifactError(f"{folder} was written by a newer flr ({body['flr_version']})", hint="upgrade flr")
    layout = LAYOUTS[body["kind"]]
    if missing := layout.missing(folder):
        raise ArtifactError(f"{folder} lacks {', '.join(missing)}", hint=f"make it again with `{layout.made_by}`")
    return Manifest(body["kind"], body["settings"], body["content"], body["source"])


def _read_body(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ArtifactError(
            f"{folder} is not a folder", hint="check the path; `flr --help` lists what makes each folder"
        )
    try:
        body: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if body["kind"] not in LAYOUTS:
            raise KeyError
    except (OSError, ValueError, KeyError, TypeError):
        raise ArtifactError(
            f"{folder} is not a folder of flr: it has no readable {MANIFEST}",
            hint="`flr prepare` makes datasets, `flr train` runs, `flr export --onnx` bundles",
        ) from None
    return body


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse to replace something that exists, unless asked to.

    Raises:
        ArtifactError: if ``path`` exists and ``overwrite`` is false, or is a folder that flr did not write.
    """
    if not path.exists():
        return
    if not overwrite:
        raise ArtifactError(f"{path} exists already", hint="add --overwrite to replace it, or name another --out")
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).exists():
        raise ArtifactError(f"{path} is a folder that flr did not write; it is left alone", hint="name another --out")


@contextmanager
def writing_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside ``path`` that becomes ``path`` when the block ends without an error.

    Raises:
        ArtifactError: as `check_free`, before anything is written.
    """
    check_free(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    temporary.mkdir()
    try:
        yield temporary
        _replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def writing_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary file path beside ``path`` that becomes ``path`` when the block ends without an error."""
    check_free(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _replace(new: Path, path: Path) -> None:
    if not path.exists():
        os.replace(new, path)
        return
    old = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.old"
    os.replace(path, old)
    os.replace(new, path)
    if old.is_dir():
        shutil.rmtree(old)
    else:
        old.unlink()


def fingerprint(folder: Path, names: tuple[str, ...]) -> str:
    """Return the SHA-256 of the named files' contents, in order, as 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in names:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]
