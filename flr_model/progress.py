"""Progress that the library reports and knows nothing about; the command line installs one that draws."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the state of one long job."""

    def start(self, total: int | None, unit: str) -> None:
        """Begin a job of ``total`` units (None: unknown)."""

    def advance(self, amount: int, **figures: float | str) -> None:
        """Count ``amount`` more units done; ``figures`` are shown beside (loss, for instance)."""

    def finish(self) -> None:
        """End the job."""


class SilentProgress:
    """The default: does nothing."""

    def start(self, total: int | None, unit: str) -> None:
        """Do nothing."""

    def advance(self, amount: int, **figures: float | str) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


SILENT = SilentProgress()
