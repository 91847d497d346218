"""Reading and writing configurations as TOML; no other file handles their dictionaries."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from flr_model.config import (
    BACKBONE,
    AlignConfig,
    EvalConfig,
    ExportConfig,
    FilesConfig,
    ModelConfig,
    PrepareConfig,
    ScoreConfig,
    Settings,
    TitleConfig,
    TrainConfig,
    UpdateConfig,
    own_fields,
)
from flr_model.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ALL: tuple[type[Settings], ...] = (
    FilesConfig,
    PrepareConfig,
    ModelConfig,
    TitleConfig,
    TrainConfig,
    AlignConfig,
    UpdateConfig,
    EvalConfig,
    ExportConfig,
    ScoreConfig,
)

C = TypeVar("C", bound=Settings)


def read_tables(path: Path) -> dict[str, dict[str, Any]]:
    """Read a TOML file of settings, one table per configuration class.

    Raises:
        ConfigError: if the file is missing, is not TOML, or has an unknown table or key (the nearest name is given).
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist", hint="name an existing TOML file with --config") from None
    except (ValueError, RecursionError) as error:  # of TOML, of text, of numbers and lists that Python will not take
        raise ConfigError(f"{path} is not TOML: {error}") from None
    tables = current(tables)
    known = {config.table: {f.name for f in own_fields(config)} for config in ALL}
    problems = []
    for table, values in tables.items():
        if table not in known or not isinstance(values, dict):
            problems.append(f"[{table}] is not a table of settings{_nearest(table, known)}")
            continue
        unknown = set(values) - known[table]
        problems += [f"{key} in [{table}] is unknown{_nearest(key, known[table])}" for key in unknown]
    if problems:
        raise ConfigError(f"{path}: " + "; ".join(sorted(problems)), hint="`flr init` prints every table and key")
    return tables


def build(config: type[C], table: dict[str, Any], flags: dict[str, Any] | None = None) -> C:
    """Make a configuration: the flags that were given, over the file's table, over the defaults.

    Raises:
        ConfigError: if a value has the wrong type or is out of range, or a key is unknown.
    """
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    rules = {f.name: f.metadata for f in own_fields(config)}
    values: dict[str, Any] = {}
    problems = []
    for key, value in {**table, **given}.items():
        if key not in rules:
            problems.append(f"{key} in [{config.table}] is unknown{_nearest(key, rules)}")
        elif rules[key]["auto"] is not None and value in ("auto", None):
            values[key] = None
        elif not _fits(value, rules[key]["kind"]):
            expected = rules[key]["kind"].__name__ + ("" if rules[key]["auto"] is None else " or auto")
            problems.append(f"{key} in [{config.table}] is {value!r}, expected {expected}")
        else:
            values[key] = rules[key]["kind"](value)
    if problems:
        raise ConfigError("; ".join(problems))
    return config(**values)


def model_config(tables: dict[str, dict[str, Any]]) -> ModelConfig:
    """Make the model's configuration from the tables that a run or a bundle saved.

    Raises:
        ConfigError: as `build`, or if there is no table of the model, or it is not that of a built one.
    """
    tables = current(tables)
    if ModelConfig.table not in tables:
        raise ConfigError(f"there is no table [{ModelConfig.table}]")
    title = build(TitleConfig, tables.get(TitleConfig.table, {}))
    # Every setting is in a saved table; the first versions knew one reader of titles.
    saved = {"item_readers": BACKBONE, **tables[ModelConfig.table]}
    model = replace(build(ModelConfig, saved), title=title)
    if model.item_readers is None or model.n_factors is None or model.guidance_open:
        raise ConfigError(f"[{ModelConfig.table}] leaves item_readers, n_factors or guidance to a training")
    return model


def current(tables: dict[str, Any]) -> dict[str, Any]:
    """Bring tables that earlier versions saved into today's form.

    The settings of the title decoder were keys of [model] and [train].
    """
    moved = {"model": ("prompt", "beams", "guidance"), "train": ("title_softmax",)}
    now = {name: dict(table) if isinstance(table, dict) else table for name, table in tables.items()}
    for name, keys in moved.items():
        for key in (key for key in keys if key in tables.get(name, {})):
            now.setdefault("title", {})[key] = now[name].pop(key)
    if tables.get("model", {}).get("length_penalty") == 0:
        del now["model"]["length_penalty"]
    return now


def dump_toml(configs: Sequence[Settings], *, comments: bool = False) -> str:
    """Write configurations as TOML, one table each (every value is a string, number or boolean).

    Args:
        configs: the configurations, in order.
        comments: put each field's help text and choices above it.
    """
    lines = []
    for part in (part for config in configs for part in config.parts()):
        lines.append(f"[{part.table}]")
        for rule in own_fields(part):
            if comments:
                choices = rule.metadata["choices"]
                lines.append(f"# {rule.metadata['help']}" + (f" [{' | '.join(choices)}]" if choices else ""))
            value = getattr(part, rule.name)
            lines.append(f"{rule.name} = {json.dumps('auto' if value is None else value, ensure_ascii=False)}")
        lines.append("")
    return "\n".join(lines)


def _fits(value: Any, kind: type) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if kind is float else kind)


def _nearest(name: str, known: Any) -> str:
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {match[0]}?)" if match else ""
