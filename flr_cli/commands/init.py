"""`flr init`: every setting with its default, as a file to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flr_cli import console
from flr_cli.options import OverwriteOpt, QuietOpt
from flr_model.config_io import ALL, dump_toml
from flr_model.writing import FILE, claim

HEADER = "# Settings of flr: give this file to any command with --config; flags win over it.\n\n"


def init(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; without it: stdout.")] = None,
    overwrite: OverwriteOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Write all settings with their defaults and meaning as TOML, for --config."""
    text = HEADER + dump_toml([config() for config in ALL], comments=True)
    if out is None:
        typer.echo(text, nl=False)
        return
    with claim(out, FILE, overwrite=overwrite) as place, place.file() as path:
        path.write_text(text, encoding="utf-8")
    console.note(f"wrote {out}", quiet=quiet)
