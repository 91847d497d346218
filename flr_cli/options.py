"""Options: the aliases every command shares, and flags made from the configuration dataclasses.

`@settings(ModelConfig, TrainConfig)` gives a command one flag per field, reads ``--config``, and calls it with the
built configurations; so a field is written once, in `flr_model.config`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from flr_model.config import Settings
from flr_model.config_io import build, read_tables
from flr_model.writing import refuse_inputs

OutOpt = Annotated[Path, typer.Option("--out", "-o", help="Where the result goes.")]
ConfigOpt = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings; flags win over it.")]
DataOpt = Annotated[
    Path | None, typer.Option("--data", "-d", help="Dataset folder; default: the one it was made from.")
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of tables.")]
QuietOpt = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors on stderr.")]
OverwriteOpt = Annotated[bool, typer.Option("--overwrite", help="Replace an existing result.")]


def settings(*configs: type[Settings]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the fields of configurations to a command as flags.

    The command takes one keyword argument per class, named after its table (``model: ModelConfig``); Typer sees the
    flags and ``--config`` instead. A field that two classes share is one flag for both.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            p
            for p in inspect.signature(command, eval_str=True).parameters.values()
            if p.name not in {config.table for config in configs}
        ]
        flags = {f.name: _parameter(f, config) for config in reversed(configs) for f in fields(config)}
        config_file = inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ConfigOpt)
        keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            path = arguments.pop("config")
            tables = read_tables(path) if path else {}
            if path and (out := arguments.get("out")):
                refuse_inputs(out, [path])
            given = {name: arguments.pop(name) for name in flags}
            built = {
                config.table: build(
                    config, tables.get(config.table, {}), {f.name: given[f.name] for f in fields(config)}
                )
                for config in configs
            }
            command(**arguments, **built)

        ordered = [flags[f.name] for config in configs for f in fields(config) if f.name in flags]
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*keyword_only, config_file, *dict.fromkeys(ordered)]
        )
        del run.__wrapped__  # type: ignore[attr-defined]
        # The copied annotations are strings that only the command's module can resolve; the signature has the types.
        run.__annotations__ = {}
        return run

    return decorate


def _parameter(field: Any, config: type[Settings]) -> inspect.Parameter:
    """Make the Typer parameter of one field; None means "not given on the command line"."""
    rule, default = field.metadata, field.default
    text = rule["help"] + (f" [{'|'.join(rule['choices'])}]" if rule["choices"] else "")
    shown = "auto" if rule["auto"] is not None and default == rule["auto"] else default
    names = ["--" + field.name.replace("_", "-")]
    if isinstance(default, bool):
        names = [f"{names[0]}/--no-{field.name.replace('_', '-')}"]
    option = typer.Option(
        *names,
        help=f"{text} [default: {shown}]",
        show_default=False,
        rich_help_panel=f"[{config.table}] settings",
        parser=None if rule["auto"] is None else _number_or_auto,
        metavar=None if rule["auto"] is None else "INTEGER|auto",
    )
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[type(default) | None, option]
    )


def _number_or_auto(text: str) -> int | str:
    """Parse the value of a setting that may be ``auto``."""
    return text if text == "auto" else int(text)
