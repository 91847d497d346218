"""The cache folder of the person: fetched assets, readings of titles, and which large files were found undamaged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

CACHE_VARIABLE = "FLR_CACHE"


def cache_folder(env: Mapping[str, str] | None = None) -> Path:
    """Return the cache folder: $FLR_CACHE, else flr in $XDG_CACHE_HOME, else ~/.cache/flr.

    This is the one place of the library that reads the environment, and only when ``env`` is None.
    """
    env = os.environ if env is None else env
    if own := env.get(CACHE_VARIABLE):
        return Path(own).expanduser()
    shared = env.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "flr"
