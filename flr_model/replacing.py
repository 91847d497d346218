"""How a finished file or folder takes the place of the old one: at every moment one of the two is there, whole.

On Linux and macOS two folders change places in one step. Elsewhere the old one is renamed away first; a process that
dies between the two renames leaves it as ``.NAME.xxxxxxxx.old``, and `recover` brings it back.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import shutil
import sys
import uuid
from contextlib import suppress
from pathlib import Path

from flr_model.errors import ArtifactError
from flr_model.locks import locked

logger = logging.getLogger(__name__)

_AT_CWD = -100
_EXCHANGE = 2
"""RENAME_EXCHANGE of Linux, and RENAME_SWAP of macOS."""

_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


def temporary(path: Path, ending: str = "tmp") -> Path:
    """Return an unused name beside a path, hidden, that `sweep` recognises."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.{ending}")


def replace(new: Path, path: Path) -> None:
    """Put ``new`` at ``path``; what was there is removed.

    Raises:
        OSError: if that is not possible; the old one is in its place then.
    """
    if not path.is_dir():
        os.replace(new, path)
    elif exchange(new, path):
        remove(new)
    else:
        old = temporary(path, "old")
        os.replace(path, old)
        try:
            os.replace(new, path)
        except BaseException:
            os.replace(old, path)
            raise
        remove(old)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step.

    Returns:
        False where the system or the file system cannot.

    Raises:
        OSError: if it can, but may not.
    """
    try:
        system = ctypes.CDLL(None, use_errno=True)
        call = system.renamex_np if sys.platform == "darwin" else system.renameat2
    except (AttributeError, OSError, TypeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        failed = call(names[0], names[1], _EXCHANGE)
    else:
        failed = call(_AT_CWD, names[0], _AT_CWD, names[1], _EXCHANGE)
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(other))


def share(source: Path, target: Path) -> None:
    """Give a file a second name, a hard link, so that large unchanged files lie on a disk once; else copy it.

    It is copied where the file system has no links, on another one, and where the permissions would not be those of the
    target's folder. Files of flr's folders are replaced and never written into, so that no name changes the others.
    """
    source = source.resolve()
    if (source.stat().st_mode ^ target.parent.stat().st_mode) & 0o666 == 0:
        with suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def lock_of(path: Path) -> Path:
    """Return the lock file of an output."""
    return path.with_name(f".{path.name}.lock")


def recover(path: Path) -> None:
    """Bring back what a process that died between two renames had moved away from ``path``.

    Nothing happens where another process is just writing ``path``.
    """
    if not path.exists() and path.parent.is_dir() and _leftovers(path, "old"):
        with suppress(ArtifactError, OSError), locked(lock_of(path), path):
            _recover(path)


def sweep(path: Path) -> None:
    """Recover ``path`` and remove what processes that died left beside it; only for who holds its lock."""
    _recover(path)
    for left in [*_leftovers(path, "tmp"), *_leftovers(path, "old")]:
        remove(left)
        logger.info("%s: removed, left by an interrupted command", left)


def remove(path: Path) -> None:
    """Remove a file or a folder; a link alone, not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _recover(path: Path) -> None:
    old = sorted(_leftovers(path, "old"), key=lambda entry: entry.stat().st_mtime)
    if old and not path.exists():
        os.replace(old[-1], path)
        logger.warning("%s: an interrupted command had moved it away; it is back", path)


def _leftovers(path: Path, ending: str) -> list[Path]:
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-z_]{{8}}\.{ending}")
    return [entry for entry in path.parent.iterdir() if name.fullmatch(entry.name)]
