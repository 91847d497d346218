"""A lock that one process holds on the place of an output, and that the system takes back when the process dies."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flr_model.errors import ArtifactError

logger = logging.getLogger(__name__)

_BUSY = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK}
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}

if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(path: Path, what: Path) -> Iterator[None]:
    """Hold a lock file for the length of a block, and remove it at the end.

    Args:
        path: the lock file; a link is not followed.
        what: the output that it guards, for messages.

    Raises:
        ArtifactError: if another process holds it.
        OSError: if the file cannot be made.
    """
    descriptor = _open(path, what)
    try:
        yield
    finally:
        with suppress(OSError):  # an open file cannot be removed everywhere; the next process takes it over
            path.unlink()
        os.close(descriptor)


def _open(path: Path, what: Path) -> int:
    """Open and lock the file that has the name now: who held it before may have removed it in between."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    while True:
        descriptor = os.open(path, flags, 0o666)
        try:
            _take(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _BUSY:
                raise ArtifactError(
                    f"another process of flr is writing {what}", hint="wait until it ends, or name another --out"
                ) from None
            if error.errno not in _UNSUPPORTED:
                raise
            logger.warning("the file system of %s has no locks: see that no other process writes it", what)
            return os.open(path, flags, 0o666)
        except BaseException:
            os.close(descriptor)
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        os.close(descriptor)
