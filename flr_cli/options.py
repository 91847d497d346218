"""Options: the aliases that commands share, and flags made from the configuration dataclasses.

`@command(ModelConfig, TrainConfig)` gives a command one flag per field, reads ``--config``, and calls it with the
built configurations; so a field is written once, in `flr_model.config`.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from flr_cli import console
from flr_model.config import Settings, flag_name, own_fields
from flr_model.config_io import build, read_tables
from flr_model.errors import ConfigError, Interrupted
from flr_model.writing import refuse_inputs

RUN_PANEL = "Run control"
OUTPUT_PANEL = "Messages"

Parameter = inspect.Parameter

switch = functools.partial(typer.Option, metavar="")
"""An option without a value, for which help shows no type."""

OutOpt = Annotated[Path, typer.Option("--out", "-o", metavar="PATH", help="Where the result goes.")]
DataOpt = Annotated[
    Path | None,
    typer.Option("--data", "-d", metavar="DIR", help="Dataset folder; default: the one that the run names."),
]
OverwriteOpt = Annotated[bool, switch("--overwrite", help="Replace an existing result.", rich_help_panel=RUN_PANEL)]
JsonOpt = Annotated[
    bool,
    switch("--json", help="Print one JSON object on stdout instead of tables.", rich_help_panel=OUTPUT_PANEL),
]
_CONFIG = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="TOML file of settings (see `flr init`); flags win over it."),
]
_MESSAGES: dict[str, Any] = {
    "quiet": Annotated[
        bool,
        switch("--quiet", "-q", help="Only warnings and errors on stderr.", rich_help_panel=OUTPUT_PANEL),
    ],
    "verbose": Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            metavar="",
            help="Details on stderr, with the traceback of an error.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ],
    "log_file": Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Append messages, details and progress to this file.", rich_help_panel=OUTPUT_PANEL
        ),
    ],
}


def command(
    *configs: type[Settings], interrupted: str = "run the same command again"
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command: settings as flags, messages, and words for Ctrl-C.

    The function takes one keyword argument per configuration, named after its table (``model: ModelConfig``); Typer
    sees the flags and ``--config`` instead. An argument named ``given`` gets the names of the settings on the command
    line.

    Args:
        configs: the configurations.
        interrupted: how to go on after Ctrl-C or SIGTERM.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        flags = {f.name: _parameter(f) for config in configs for f in own_fields(config)}
        signature = inspect.signature(function, eval_str=True).parameters

        def run(*, quiet: bool, verbose: bool, log_file: Path | None, **arguments: Any) -> None:
            console.setup(quiet=quiet, verbose=verbose, log_file=log_file)
            path = arguments.pop("config", None)
            if path and (out := arguments.get("out")):
                refuse_inputs(out, [path])
            tables = read_tables(path) if path else {}
            given = {name: value for name in flags if (value := arguments.pop(name)) is not None}
            built = [_build(config, tables, given) for config in configs]
            _check_effect(given, built)
            if "given" in signature:
                arguments["given"] = [*(["config"] if path else []), *given]
            try:
                function(**arguments, **{settings.table: settings for settings in built})
            except KeyboardInterrupt:
                raise Interrupted("stopped before the end; nothing was written", hint=interrupted) from None

        own = [p for p in signature.values() if p.name not in {"given", *(config.table for config in configs)}]
        if configs:
            own.append(_keyword("config", _CONFIG, None))
        own += flags.values()
        own += [_keyword(name, option, None if name == "log_file" else False) for name, option in _MESSAGES.items()]
        ordered = sorted(own, key=_in_messages)
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(kind=Parameter.KEYWORD_ONLY) for p in ordered]
        )
        run.__annotations__ = {p.name: p.annotation for p in ordered}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        return run

    return decorate


def _build(config: type[Settings], tables: dict[str, dict[str, Any]], given: dict[str, Any]) -> Settings:
    own = {f.name: given[f.name] for f in own_fields(config) if f.name in given}
    return build(config, tables.get(config.table, {}), own)


def _check_effect(given: dict[str, Any], built: list[Settings]) -> None:
    """Refuse flags that the other settings leave without an effect.

    A file may hold such settings: it serves several commands.
    """
    values = {name: value for settings in built for name, value in settings.as_dict().items()}
    for rule in (f for settings in built for f in own_fields(settings) if f.name in given):
        needed = rule.metadata["only"] or {}
        if needed and not any(values[other] in fitting for other, fitting in needed.items()):
            refuse([rule.name], "with " + " and ".join(f"{flag_name(other)} {values[other]}" for other in needed))


def refuse(flags: Sequence[str], reason: str) -> None:
    """Refuse settings that would have no effect.

    Args:
        flags: names of the fields given on the command line.
        reason: why they have none, as the end of a sentence.

    Raises:
        ConfigError: if there are any.
    """
    if flags:
        names = ", ".join(flag_name(name) for name in flags)
        raise ConfigError(f"{names} would have no effect {reason}", hint=f"leave out {names}")


def _parameter(rule: Field[Any]) -> Parameter:
    """Make the Typer parameter of one field; None means "not given on the command line"."""
    meta, default = rule.metadata, rule.default
    flag, kind, auto = flag_name(rule.name), meta["kind"], meta["auto"] is not None
    text = meta["help"][:1].upper() + meta["help"][1:] + "".join(f" ({' | '.join(c)})" for c in [meta["choices"]] if c)
    shown = "auto" if default is None else json.dumps(default) if kind is bool else str(default)
    option = typer.Option(
        f"{flag}/--no{flag[1:]}" if kind is bool else flag,
        help=escape(f"{text} [default: {shown!r}]" if "\n" in shown else f"{text} [default: {shown}]"),
        show_default=False,
        rich_help_panel=meta["panel"],
        parser=functools.partial(_value_or_auto, kind) if auto else None,
        autocompletion=completion(meta["choices"]) if meta["choices"] else None,
        metavar={bool: "", int: "INT", float: "NUM", str: "TEXT"}[kind] + ("|auto" if auto else ""),
    )
    return _keyword(rule.name, Annotated[kind | None, option], None)


def completion(choices: Collection[str]) -> Callable[[str], list[str]]:
    """Return what offers the choices to a shell (`flr --install-completion`)."""

    def offer(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return offer


def _value_or_auto(kind: type[int] | type[float] | type[str], text: str) -> float | str:
    """Parse the value of a setting that may be ``auto``."""
    return text if text == "auto" else kind(text)


def _keyword(name: str, annotation: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _in_messages(parameter: Parameter) -> bool:
    """Tell the options of the last panel."""
    options = getattr(parameter.annotation, "__metadata__", ())
    return any(getattr(option, "rich_help_panel", None) == OUTPUT_PANEL for option in options)
