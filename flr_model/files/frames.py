"""A pandas frame as a table, so that it is read by the rules of files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flr_model.errors import DataError
from flr_model.files.rows import Row

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class FrameTable:
    """A frame (see `flr_model.files.tables.Table`); rows count as lines, its index does not count.

    Args:
        frame: with rows, and a name of its own for each column.
        path: what the frame is called in messages.

    Raises:
        DataError: if it has no rows, or two columns of one name.
    """

    frame: pd.DataFrame
    path: Path = Path("the frame")
    about: str = "a pandas frame"

    def __post_init__(self) -> None:
        if not len(self.frame):
            raise DataError(f"{self.path} has no rows")
        if len(set(self.names)) < len(self.names):
            raise DataError(f"{self.path} has several columns of one name: {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(map(str, self.frame.columns))

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """Give the named cells of every row; what pandas holds to be missing is None."""
        cells = [_values(self.frame.iloc[:, self.names.index(name)]) for name in names]
        for line, row in enumerate(zip(*cells, strict=True), start=1):
            yield Row(line, list(row))


def _values(column: pd.Series[Any]) -> list[Any]:
    known = column.astype(object).where(column.notna(), None)
    return [value.tolist() if hasattr(value, "tolist") else value for value in known]
