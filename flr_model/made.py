"""When, by which command, with what and how long a folder was made: facts for its manifest."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

COMMAND: ContextVar[list[str] | None] = ContextVar("command", default=None)
"""The command line, as the person wrote it; None in Python. No flag of flr takes a secret."""

LIBRARIES = ("numpy", "pandas", "torch", "transformers", "optimum", "onnxruntime")
"""Whose versions matter, where they took part."""

_began: ContextVar[float | None] = ContextVar("began", default=None)


@contextmanager
def timed() -> Iterator[None]:
    """Take the block as the making of what is written in it."""
    before = _began.set(time.monotonic())
    try:
        yield
    finally:
        _began.reset(before)


def facts() -> dict[str, Any]:
    """Return the facts, JSON values only; ``seconds`` are those of the `timed` block so far, wall-clock."""
    began = _began.get()
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": COMMAND.get(),
        "seconds": None if began is None else round(time.monotonic() - began, 1),
        "device": _device(),
        "python": platform.python_version(),
        "libraries": {name: version for name in LIBRARIES if name in sys.modules and (version := _version(name))},
    }


def _device() -> str:
    """Name the GPU where torch has one, else the processors."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU, {platform.machine()}, {os.cpu_count()} cores"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
