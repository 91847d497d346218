"""Progress of long jobs, which the library reports to an object it is given; the command line's draws it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running job."""

    def advance(self, amount: int, **figures: float | str) -> None:
        """Count ``amount`` more units as done; ``figures`` (the loss, for instance) are shown beside."""


class Progress(Protocol):
    """Receives the state of long jobs."""

    def task(self, total: int | None, unit: str) -> AbstractContextManager[Task]:
        """Begin a job of ``total`` units (None: unknown) that ends with the block, also by an error."""


class SilentProgress:
    """The default: shows nothing."""

    @contextmanager
    def task(self, total: int | None, unit: str) -> Iterator[Task]:
        """Begin a job that nobody sees."""
        yield self

    def advance(self, amount: int, **figures: float | str) -> None:
        """Show nothing."""


SILENT = SilentProgress()
