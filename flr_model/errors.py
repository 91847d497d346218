"""The errors a user can meet, each with the exit code of the command; `flr_cli.app` prints them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from flr_model.installed import pip_command


class FlrError(Exception):
    """A problem that the user can solve.

    Args:
        message: what is wrong, and where.
        hint: the next thing to try, as a sentence or a command.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(FlrError):
    """A setting has a value that cannot work, or a name that does not exist."""

    exit_code = 2


class DataError(FlrError):
    """A user's file cannot be used as it is."""

    exit_code = 3


class ArtifactError(FlrError):
    """A dataset, run or bundle folder is missing, incomplete or of another kind."""

    exit_code = 3


class GateError(FlrError):
    """A quality gate refused: the result is worse than the stated tolerance."""

    exit_code = 4


class SystemFault(FlrError):
    """The system refused a file, the network or memory."""

    exit_code = 3

    @classmethod
    def of(cls, error: OSError) -> SystemFault:
        """Describe an error of the system: the file, what is wrong, and what to try."""
        reason = error.strerror or str(error) or type(error).__name__
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
        if names:
            reason = f"{' -> '.join(names)}: {reason}"
        return cls(reason, hint=_REMEDIES.get(error.errno or 0, "check the path, its folder and your rights to it"))


class Interrupted(FlrError):
    """The work was stopped from outside, by Ctrl-C or SIGTERM."""

    exit_code = 130


class NothingToDo(FlrError):
    """What was asked for is there already; not a failure."""

    exit_code = 0


class MissingExtraError(FlrError):
    """A package that only some uses need is not installed.

    Args:
        package: the module that could not be imported.
        extra: the extra of flr that brings it; None where it is the user's own choice.
    """

    exit_code = 1

    def __init__(self, package: str, extra: str | None = None) -> None:
        super().__init__(
            f"this command needs the package {package!r}, which is not installed",
            hint=pip_command(extra) if extra else f"pip install {package}",
        )


_REMEDIES = {
    errno.ENOSPC: "free some space, or write to another disk with --out",
    errno.EDQUOT: "free some space, or write to another disk with --out",
    errno.EFBIG: "raise the limit of file sizes (`ulimit -f`), or write to another disk with --out",
    errno.EROFS: "write to another disk with --out",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.EEXIST: "name a place below a folder, not below a file",
    errno.ENOTDIR: "name a place below a folder, not below a file",
    errno.EACCES: "use a folder in which you may write, and files that you may read",
    errno.EPERM: "use a folder in which you may write, and files that you may read",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
}


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn a failing import of another package into the error that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("flr", "flr_cli", "flr_export", "flr_model", ""):
            raise
        raise MissingExtraError(package, extra) from error


def pluralize(n: int, noun: str) -> str:
    """Write a count with its noun.

    >>> pluralize(1, "row"), pluralize(12_000, "row")
    ('1 row', '12,000 rows')
    """
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
