"""One field of a configuration: its default, its bounds, its flag; and the base that checks them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar

from flr_model.errors import ConfigError


def setting(
    default: Any,
    text: str,
    *,
    choices: tuple[str, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
    auto: float | str | None = None,
    panel: str | None = None,
    only: Mapping[str, tuple[str, ...]] | None = None,
) -> Any:
    """Declare one field.

    Args:
        default: its default.
        text: its help text: what it does.
        choices: the values it may take.
        low: least value.
        high: largest value.
        auto: if given, the value may be None, which flags and files write as the word ``auto``; files of earlier
            versions write it as this number.
        panel: heading of its group in ``--help``; None puts it among the common options.
        only: other fields and the values of each with which this one has an effect, one of them being enough; its flag
            is refused otherwise.
    """
    kind = type(auto if default is None else default)
    rules = {"help": text, "kind": kind, "choices": choices, "low": low, "high": high, "auto": auto}
    return field(default=default, metadata={**rules, "panel": panel, "only": only})


def own_fields(config: Settings | type[Settings]) -> list[Field[Any]]:
    """Return the fields of a configuration, without a part that has a table of its own."""
    return [f for f in fields(config) if "nested" not in f.metadata]


def flag_name(field_name: str) -> str:
    """Return the flag of a field.

    >>> flag_name("n_factors")
    '--n-factors'
    """
    return "--" + field_name.replace("_", "-")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of the configurations: checks every field against its declaration, all problems in one message.

    Raises:
        ConfigError: if a value is outside its choices or bounds.
    """

    table: ClassVar[str]
    """The table of the TOML file that holds these fields."""

    def __post_init__(self) -> None:
        for f in own_fields(self):
            if f.metadata["auto"] is not None and getattr(self, f.name) == f.metadata["auto"]:
                object.__setattr__(self, f.name, None)
        problems = [
            problem for f in own_fields(self) if (problem := _problem(f.name, getattr(self, f.name), f.metadata))
        ]
        problems += self.problems()
        if problems:
            raise ConfigError("; ".join(problems), hint="see the flag's range in `--help`")

    def problems(self) -> list[str]:
        """Name what is wrong between fields; a subclass overrides it where fields constrain each other."""
        return []

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for TOML and JSON; parts with a table of their own are left out."""
        return {f.name: getattr(self, f.name) for f in own_fields(self)}

    def parts(self) -> list[Settings]:
        """Return this and its part with a table of its own, if that one has a meaning."""
        return [self]


def _problem(name: str, value: Any, rule: Any) -> str | None:
    choices, low, high = rule["choices"], rule["low"], rule["high"]
    if value is None and rule["auto"] is not None:
        return None
    if value != value:
        return f"{flag_name(name)} is not a number"
    if choices is not None and value not in choices:
        return f"{flag_name(name)} is {value!r}, not one of {', '.join(choices)}"
    if low is not None and value < low:
        return f"{flag_name(name)} is {value}, below {low}"
    if high is not None and value > high:
        return f"{flag_name(name)} is {value}, above {high}"
    return None


MODEL = "Model"
READING = "Reading items and histories"
FILES = "Reading files"
TITLES = "Title decoder (--decoder title)"
LENGTH = "Length of training"
TUNING = "Tuning of the backbone"
OPTIMIZER = "Optimizer"
LOSS = "Loss"
POLICY = "Policy optimization"
GATES = "Quality gates"
PERFORMANCE = "Memory and speed"
COMPARISON = "Compared with"


def report_to() -> Any:
    """Declare the field of `flr train` and `flr align` that names a library which draws their figures."""
    return setting(
        "none",
        "where loss and validation go besides the terminal: tensorboard (OUT.logs), mlflow, or wandb (offline unless "
        "WANDB_MODE is set)",
        choices=("none", "tensorboard", "mlflow", "wandb"),
        panel=LENGTH,
    )


TITLE_ONLY = {"decoder": ("title",)}
