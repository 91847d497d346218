"""Paths as the functions take them."""

from __future__ import annotations

import os
from pathlib import Path

PathLike = str | os.PathLike[str]


def as_path(given: PathLike | None) -> Path | None:
    """Return a path that may not be given."""
    return None if given is None else Path(given)
