"""The folders flr writes: which files each kind holds, and the manifest with which a folder proves that it is whole."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from flr_model import __version__
from flr_model.checksums import has_sha256, sha256
from flr_model.errors import ArtifactError, FlrError
from flr_model.made import facts
from flr_model.replacing import recover

FORMAT_VERSION = 2
"""2: the manifest has the size and the SHA-256 of every file, and a checksum of itself."""

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Layout:
    """The files one kind of folder must hold.

    Args:
        kind: written in the manifest: dataset, run, bundle, evaluation or asset.
        files: names of required files, relative to the folder.
        made_by: the command that writes such a folder, for messages.
        of_titles: files required besides with ``--decoder title``.
    """

    kind: str
    files: tuple[str, ...]
    made_by: str
    of_titles: tuple[str, ...] = ()

    @property
    def again(self) -> str:
        """The hint where a folder is of no use."""
        return f"make it again with `{self.made_by}`"

    def required(self, manifest: Manifest) -> list[str]:
        """Name the files that a folder with this manifest must hold, those that the manifest lists among them."""
        titles = self.of_titles if manifest.settings.get("model", {}).get("decoder") == "title" else ()
        return list(dict.fromkeys((*self.files, *titles, *manifest.files)))


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
    ),
    "flr train",
    ("title_tree.npz", "writer/config.json"),
)
BUNDLE = Layout(
    "bundle",
    ("items.parquet", "item_vectors.npy", "evidence.npz", "reader.onnx", "item_encoder.onnx", "tokenizer.json"),
    "flr export --onnx",
    ("title_writer.onnx", "title_tree.npz", "title_head.npy"),
)
EVALUATION = Layout("evaluation", ("eval.json", "ranks.parquet"), "flr eval")
ASSET = Layout("asset", (), "flr fetch")
LAYOUTS = {layout.kind: layout for layout in (DATASET, RUN, BUNDLE, EVALUATION, ASSET)}

STEPS = {"run": "flr train {} --out run", "bundle": "flr export {} --onnx --out bundle"}
"""The command that makes each kind of folder from the one before, a dataset at first."""


@dataclass
class Manifest:
    """What a folder says of itself.

    Args:
        kind: dataset, run, bundle, evaluation or asset.
        settings: the effective configuration, one dictionary per table.
        content: figures and facts of this kind (counts, metrics, parity), JSON values only.
        source: the folder this one was made from, as a path at the time.
        files: of every other file of the folder, ``{"bytes": size, "sha256": hexadecimal}``; made by `write`.
        made: when, how and with what (see `made.facts`), likewise; empty in folders of earlier versions.
    """

    kind: str
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    content: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict, compare=False)
    made: dict[str, Any] = field(default_factory=dict, compare=False)

    def write(self, folder: Path) -> None:
        """Write the manifest into a folder whose other files are all written."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
        self.files = {
            path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in paths
        }
        self.made = facts()
        body = {
            "kind": self.kind,
            "format_version": FORMAT_VERSION,
            "flr_version": __version__,
            "settings": self.settings,
            "content": self.content,
            "source": self.source,
            "made": self.made,
            "files": self.files,
        }
        body["sha256"] = _digest(body)
        (folder / MANIFEST).write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def kind_of(folder: Path) -> str | None:
    """Return the kind of a folder that flr wrote, whatever state it is in; None for any other folder."""
    try:
        return str(_read_body(folder)["kind"])
    except ArtifactError:
        return None


def files_of(folder: Path) -> set[str] | None:
    """Return the names of the files that flr wrote into a folder of its own; None where its manifest does not say.

    Evaluations that were saved in it since, which its manifest does not list, are among them.
    """
    body = _read_body(folder)
    if body["format_version"] != FORMAT_VERSION or _fault(body):
        return None
    saved = [place for place in evaluation_folder(folder).glob("*") if kind_of(place) == EVALUATION.kind]
    later = {f"{place.relative_to(folder).as_posix()}/{name}" for place in saved for name in files_of(place) or ()}
    return {MANIFEST, *body["files"], *later}


def evaluation_folder(folder: Path, split: str = "") -> Path:
    """Return where the evaluations of a run or bundle are saved, or that of one split."""
    return folder / EVALUATION.kind / split


def open_folder(folder: Path, *kinds: str) -> Manifest:
    """Read the manifest of a folder and check that it is one of the wanted kinds, complete and undamaged.

    Raises:
        ArtifactError: if it is missing, of another kind or of another format, or a file is missing or damaged.
    """
    recover(folder)
    body = _read_body(folder)
    if body["kind"] not in kinds:
        raise ArtifactError(
            f"{folder}: expected a {' or '.join(kinds)}, got a {body['kind']}",
            hint=_way(folder, body, kinds),
        )
    layout = LAYOUTS[body["kind"]]
    if body["format_version"] > FORMAT_VERSION:
        raise ArtifactError(f"{folder} was written by a newer flr ({body.get('flr_version')})", hint="upgrade flr")
    if body["format_version"] < FORMAT_VERSION:
        raise ArtifactError(
            f"{folder} was written by an earlier flr, without checksums of its files", hint=layout.again
        )
    if problem := _fault(body):
        raise ArtifactError(f"{folder / MANIFEST} is damaged: {problem}", hint=layout.again)
    manifest = Manifest(
        body["kind"], body["settings"], body["content"], body["source"], body["files"], body.get("made", {})
    )
    _check_files(folder, manifest, layout.required(manifest), layout.again)
    return manifest


@contextmanager
def reading(path: Path, hint: str) -> Iterator[None]:
    """Turn whatever goes wrong while a file of one of these folders is parsed into an error that names the file.

    The libraries' parsers raise exceptions of many kinds on content that they did not expect.

    Raises:
        ArtifactError: instead.
    """
    try:
        yield
    except FlrError:
        raise
    except MemoryError:
        raise ArtifactError(f"{path} needs more memory than there is", hint=hint) from None
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ArtifactError(f"{path} cannot be read: {reason[0]}", hint=hint) from error


def fingerprint(folder: Path, names: tuple[str, ...]) -> str:
    """Return the SHA-256 of the named files' contents, in order, as 16 hexadecimal digits."""
    return sha256(folder / name for name in names)[:16]


def _way(folder: Path, body: dict[str, Any], kinds: Sequence[str]) -> str:
    """Say how to get from a folder to one of the wanted kinds: by what follows it, or else by what it was made of."""
    stages = ("dataset", *STEPS)
    here, wanted = body["kind"], next(kind for kind in LAYOUTS if kind in kinds)
    if here in stages and wanted in stages and stages.index(here) < stages.index(wanted):
        commands, given = [], str(folder)
        for kind in stages[stages.index(here) + 1 : stages.index(wanted) + 1]:
            commands.append(f"`{STEPS[kind].format(shlex.quote(given))}`")
            given = kind
        return f"go on with {', then '.join(commands)}"
    content = body.get("content")
    source = content.get("dataset") if wanted == "dataset" and isinstance(content, dict) else body.get("source")
    made = f"make one with `{LAYOUTS[wanted].made_by}`"
    return f"it was made of {source}; give that one, or {made}" if here in STEPS and isinstance(source, str) else made


def _read_body(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ArtifactError(
            f"{folder} is not a folder", hint="check the path; `flr --help` lists what makes each folder"
        )
    try:
        body: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if body["kind"] not in LAYOUTS or type(body["format_version"]) is not int:
            raise KeyError
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ArtifactError(
            f"{folder} is not a folder of flr: it has no readable {MANIFEST}",
            hint="`flr prepare` makes datasets, `flr train` runs, `flr export --onnx` bundles",
        ) from None
    return body


def _fault(body: dict[str, Any]) -> str | None:
    """Say what is wrong with a manifest of this format."""
    if body.get("sha256") != _digest({name: value for name, value in body.items() if name != "sha256"}):
        return "its checksum differs"
    for name, kind in (("settings", dict), ("content", dict), ("source", str | None), ("files", dict)):
        if name not in body or not isinstance(body[name], kind):
            return f"no usable {name!r}"
    if not isinstance(body.get("made", {}), dict):  # folders of earlier versions have none
        return "no usable 'made'"
    tables = all(isinstance(table, dict) for table in body["settings"].values())
    if not tables or not all(_is_entry(name, entry) for name, entry in body["files"].items()):
        return "no usable 'settings' or 'files'"
    return None


def _is_entry(name: str, entry: Any) -> bool:
    inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
    return inside and isinstance(entry, dict) and {"bytes", "sha256"} <= entry.keys()


def _digest(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _check_files(folder: Path, manifest: Manifest, required: list[str], again: str) -> None:
    if missing := [name for name in required if not (folder / name).is_file()]:
        raise ArtifactError(f"{folder} lacks {', '.join(missing)}", hint=again)
    for name, entry in manifest.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            right = size == entry["bytes"] and has_sha256(path, entry["sha256"])
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read: {error.strerror}", hint=again) from error
        if not right:
            reason = "its SHA-256 differs" if size == entry["bytes"] else f"{size:,} bytes for {entry['bytes']:,}"
            raise ArtifactError(
                f"{path} is damaged or of another folder: {reason} (by {MANIFEST})", hint=f"copy it again, or {again}"
            )
