"""Between pandas frames and what the library reads and gives."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flr.paths import PathLike
from flr_model import columns
from flr_model.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def as_files(sources: Mapping[str, PathLike | pd.DataFrame | None]) -> Iterator[dict[str, Path | None]]:
    """Give the path of every source; frames are Parquet files, by their names, for the length of the block.

    Raises:
        DataError: if a frame has a column of values of several kinds, or of one that no table has.
    """
    paths: dict[str, Path | None] = {}
    with tempfile.TemporaryDirectory(prefix="flr-") as folder:
        for name, source in sources.items():
            if source is None or not hasattr(source, "to_parquet"):
                paths[name] = None if source is None else Path(source)
                continue
            paths[name] = path = Path(folder) / f"{name}.parquet"
            try:
                source.to_parquet(path, index=False)
            except (ValueError, TypeError, OverflowError, NotImplementedError) as error:  # those of pyarrow among them
                raise DataError(
                    f"the frame of {name} has a column that cannot be read: {str(error).splitlines()[0]}",
                    hint="make ids text: frame[column] = frame[column].astype(str)",
                ) from None
        yield paths


def as_frame(header: list[str], parts: list[list[Any]], *, users: bool, because: bool) -> pd.DataFrame:
    """Make a frame of results.

    Args:
        header: names of the columns.
        parts: the columns of each chunk.
        users: keep the column of users.
        because: keep the columns of what a recommendation is made of.
    """
    import numpy as np
    import pandas as pd

    kept = [name for name in header if because or name in BRIEF]
    joined = {name: np.concatenate([part[header.index(name)] for part in parts]) for name in kept if parts}
    frame = pd.DataFrame(joined, columns=kept)
    return frame if users else frame.drop(columns=columns.USER)


BRIEF = (columns.USER, columns.RANK, columns.ITEM, columns.TITLE, columns.SCORE, columns.SOURCE)
"""The columns of a result without reasons."""
