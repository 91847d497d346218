"""The one way to an output: what may be replaced is decided before any work, and the place is locked until the end.

`claim` refuses what would destroy an input, a folder of another kind or something that flr did not write; it tries the
place, locks it and clears what a killed command left. The result is written beside its place and moved there whole.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from flr_model.artifacts import files_of, kind_of
from flr_model.cache import CACHE_VARIABLE
from flr_model.errors import ArtifactError, ConfigError
from flr_model.locks import locked
from flr_model.made import timed
from flr_model.replacing import lock_of, remove, replace, sweep, temporary

FILE = "file"
"""The kind of an output that is one file; the others are the kinds of `flr_model.artifacts.LAYOUTS`."""

LONGEST_ENDING = ".12345678.tmp.rejects"
"""Stands for what is appended to an output's name while it is written."""

CLUTTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""What file managers leave in folders; nobody misses it."""

ELSEWHERE = "name another --out"
ELSEWHERE_CACHED = f"set {CACHE_VARIABLE} to another cache folder"


@dataclass(frozen=True)
class Claim:
    """The place of an output, reserved for this process.

    Args:
        path: the place, links resolved.
    """

    path: Path

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Give a new folder beside the place that takes it when the block ends without an error."""
        new = temporary(self.path)
        try:
            new.mkdir()
            yield new
            _set_permissions(new)
            replace(new, self.path)
        finally:
            if new.exists():
                remove(new)

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Give the path of a new file beside the place that takes it when the block ends without an error."""
        new = temporary(self.path)
        try:
            yield new
            replace(new, self.path)
        finally:
            new.unlink(missing_ok=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give an empty folder for the length of a block; if the process dies, the next claim removes it."""
        name = f".{self.path.name}."
        with tempfile.TemporaryDirectory(prefix=name, suffix=".tmp", dir=self.path.parent) as folder:
            yield Path(folder)

    def beside(self, ending: str) -> Path:
        """Return a hidden path beside the place for what outlives this process, such as checkpoints."""
        return self.path.with_name(f".{self.path.name}.{ending}")


@contextmanager
def claim(
    path: Path,
    kind: str,
    *,
    inputs: Iterable[Path | None] = (),
    overwrite: bool = False,
    owned: bool = False,
    leads: bool = True,
) -> Iterator[Claim]:
    """Reserve the place of an output for the length of a block, which does the work and writes it.

    Args:
        path: where the output goes; a link is followed.
        kind: `FILE`, or the kind of folder.
        inputs: what the command reads; None stands for an input that was not given.
        overwrite: an output of the same kind may be replaced.
        owned: the place is flr's own (its cache): whatever is there may be replaced.
        leads: whether this process writes; of several that train together, only one does.

    Raises:
        ArtifactError: if something there may not be replaced, the place cannot be written, or another process writes.
        ConfigError: if the output would replace or change an input.
    """
    inputs = list(inputs)
    target = check_target(path, kind, inputs=inputs, overwrite=overwrite, owned=owned)
    if not leads:
        yield Claim(target)
        return
    with ExitStack() as held:
        try:
            held.callback(_remove_empty, [folder for folder in target.parents if not folder.exists()])
            target.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(lock_of(target), path))
            held.enter_context(timed())
            sweep(target)
        except OSError as error:
            raise _unwritable(path, error, owned=owned) from error
        check_target(path, kind, inputs=inputs, overwrite=overwrite, owned=owned)  # of what is there now
        yield Claim(target)


def check_target(
    path: Path, kind: str, *, inputs: Iterable[Path | None] = (), overwrite: bool = False, owned: bool = False
) -> Path:
    """Refuse an output that cannot or may not be written, before any work; nothing is changed.

    The arguments are those of `claim`.

    Returns:
        The place, links resolved.

    Raises:
        ArtifactError, ConfigError: as `claim`.
    """
    try:
        target = _resolved(path)
        refuse_inputs(path, inputs)
        if target.exists():
            _refuse_present(path, target, kind, overwrite=overwrite, owned=owned)
        _try_place(target)
    except OSError as error:
        raise _unwritable(path, error, owned=owned) from error
    return target


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, innermost first, up to the first one with something in it: those of an output that failed."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _set_permissions(folder: Path) -> None:
    """Give every file the permissions of the folder; some libraries write files that only their owner can read.

    What other folders share is left alone.
    """
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_nlink == 1:
            path.chmod(mode)


def _resolved(path: Path) -> Path:
    if str(path) == "-":
        raise ConfigError(
            f"--out {path} names no file or folder", hint="results are not written to stdout; name a path"
        )
    if path.is_symlink() and not path.exists():
        raise ArtifactError(f"{path} is a link that leads nowhere", hint="remove the link, or " + ELSEWHERE)
    if path.exists():
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise ArtifactError(f"{path} is a device or a stream, not a file", hint=ELSEWHERE)
        if _is_standard_stream(status):
            raise ArtifactError(f"{path} is what this command's messages or reports go to", hint=ELSEWHERE)
    return Path(os.path.realpath(path))


def _is_standard_stream(status: os.stat_result) -> bool:
    for descriptor in (0, 1, 2):
        try:
            if stat.S_ISREG(status.st_mode) and os.path.samestat(status, os.fstat(descriptor)):
                return True
        except OSError:  # closed
            continue
    return False


def refuse_inputs(path: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse an output that is one of the inputs, lies in one or holds one.

    Raises:
        ConfigError: if it does.
    """
    target = Path(os.path.realpath(path))
    for given in inputs:
        if given is None or not os.path.exists(given):  # which, unlike Path.exists, never raises
            continue
        real = Path(os.path.realpath(given))
        relation = None
        if target == real or (target.exists() and target.samefile(real)):
            relation = "is an input of this command"
        elif target.is_relative_to(real):
            relation = f"lies in {given}, an input of this command"
        elif real.is_relative_to(target):
            relation = f"holds {given}, an input of this command"
        if relation:
            raise ConfigError(f"{path} cannot be an output: it {relation}", hint=ELSEWHERE)


def _refuse_present(path: Path, target: Path, kind: str, *, overwrite: bool, owned: bool) -> None:
    """Refuse to replace what is there, unless it is of the same kind and may be replaced."""
    if owned:
        return
    if target.is_dir() and kind == FILE:
        raise ArtifactError(f"{path} is a folder", hint="name a file with --out, for instance recs.csv")
    if not target.is_dir() and kind != FILE:
        raise ArtifactError(f"{path} is a file; a {kind} is a folder", hint=ELSEWHERE)
    if not overwrite:
        raise ArtifactError(f"{path} exists already", hint="add --overwrite to replace it, or " + ELSEWHERE)
    if target.is_dir():
        _refuse_folder(path, target, kind)


def _refuse_folder(path: Path, target: Path, kind: str) -> None:
    """Refuse to replace a folder that is not wholly of this kind and written by flr."""
    if Path.cwd().is_relative_to(target):
        raise ArtifactError(f"{path} is or holds the current folder; it is left alone", hint=ELSEWHERE)
    if not any(target.iterdir()):
        return
    present = kind_of(target)
    if present is None:
        raise ArtifactError(f"{path} is a folder that flr did not write; it is left alone", hint=ELSEWHERE)
    if present != kind:
        raise ArtifactError(f"{path} is a {present}; a {kind} does not replace it", hint=ELSEWHERE)
    if foreign := _foreign(target):
        raise ArtifactError(
            f"{path} holds what flr did not write: {', '.join(foreign[:3])}; it is left alone",
            hint="move that elsewhere, or " + ELSEWHERE,
        )


def _foreign(folder: Path) -> list[str]:
    """Name the files of a folder that its manifest does not; a damaged manifest knows nothing."""
    known = files_of(folder)
    if known is None:
        return []
    files = (entry for entry in folder.rglob("*") if not entry.is_dir() and entry.name not in CLUTTER)
    return sorted(name for entry in files if (name := entry.relative_to(folder).as_posix()) not in known)


def _try_place(target: Path) -> None:
    """Raise what the system has against writing there, as far as it can be seen without writing."""
    place = target.parent
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(20, f"{place} is not a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(13, f"no permission to write into {place}")
    try:
        target.with_name(f".{target.name}{LONGEST_ENDING}").lstat()
    except FileNotFoundError:
        return


def _unwritable(path: Path, error: OSError, *, owned: bool) -> ArtifactError:
    shown = str(path) if len(str(path)) < 120 else f"{str(path)[:100]}..."
    return ArtifactError(
        f"{shown} cannot be written: {error.strerror or error}", hint=ELSEWHERE_CACHED if owned else ELSEWHERE
    )
