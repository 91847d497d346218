"""`flr init`: every setting with its default, as a file to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flr_cli import console
from flr_cli.options import OverwriteOpt, command
from flr_model.artifacts import writing_file
from flr_model.config_io import ALL, dump_toml

HEADER = "# Settings of flr: give this file to any command with --config; flags win over it.\n\n"


@command()
def init(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to write; without it: stdout.")
    ] = None,
    overwrite: OverwriteOpt = False,
) -> None:
    """Write all settings with their defaults and meaning as TOML, for --config."""
    text = HEADER + dump_toml([config() for config in ALL], comments=True)
    if out is None:
        console.write(text)
        return
    with writing_file(out, overwrite=overwrite) as path:
        path.write_text(text, encoding="utf-8")
    console.note(f"wrote {out}")
