"""How flr came onto this machine, so that a message can name the command that adds an extra to it."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

CLONE = Path(__file__).resolve().parents[1]
"""The folder of the packages: a clone, or site-packages."""


def pip_command(extra: str) -> str:
    """Return the command that installs an extra of the flr that runs; no package index has flr by its name."""
    if (CLONE / "pyproject.toml").is_file():
        return f'pip install -e "{CLONE}[{extra}]"'
    url = _origin()
    return f'pip install "flr[{extra}] @ {url}"' if url else f'pip install ".[{extra}]" in a clone of flr'


def _origin() -> str | None:
    """Return where pip took the installed flr from; None where it is not known or no longer there."""
    try:
        text = metadata.distribution("flr").read_text("direct_url.json")
        origin = json.loads(text) if text else {}
    except (metadata.PackageNotFoundError, ValueError):
        return None
    url: str | None = origin.get("url")
    if url and url.startswith("file:") and not Path(unquote(urlsplit(url).path)).exists():
        return None
    return f"{origin['vcs_info']['vcs']}+{url}" if url and "vcs_info" in origin else url
