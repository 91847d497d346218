"""The errors a user can meet; `flr_cli.app` prints them and maps each family to an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


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


class MissingExtraError(FlrError):
    """A package of an optional extra is not installed.

    Args:
        package: the module that could not be imported.
        extra: the extra of flr that brings it.
    """

    exit_code = 1

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this command needs the package {package!r}, which is not installed",
            hint=f'pip install "flr[{extra}]"',
        )


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn a failing import of another package into the error that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("flr_cli", "flr_model", "export", ""):
            raise
        raise MissingExtraError(package, extra) from error


def counted(n: int, noun: str) -> str:
    """Write a count with its noun.

    >>> counted(1, "row"), counted(12_000, "row")
    ('1 row', '12,000 rows')
    """
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
