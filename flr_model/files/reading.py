"""What is known of a file before it is opened: what the user says of it, and what `flr prepare` remembered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flr_model import columns
from flr_model.config import FilesConfig
from flr_model.files.times import AUTO, TimeRule

ROLES = (
    "interactions", "items", "train", "valid", "test", "histories", "candidates", "only", "exclude", "boost", "recs",
)  # fmt: skip
"""The files a command may read; a setting for one alone is written ``items=VALUE``."""

FLAGS = {
    columns.USER: "--user-col",
    columns.ITEM: "--item-col",
    columns.TIME: "--time-col",
    columns.TITLE: "--title-col",
    columns.HISTORY: "--history-col",
    columns.HISTORY_TIMES: "--history-time-col",
}
"""The flag that names a column of the user's files."""

_ROLE = re.compile(rf"(?:^|,)({'|'.join(ROLES)})=")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How to read one file, as far as it is known; what is not is found from the content.

    Args:
        names: the user's names of columns, keyed as in `flr_model.columns`.
        remembered: names of columns of the file that a dataset was made of; they count where this file has them.
        encoding: of text, as Python names it.
        delimiter: of text; one or more characters.
        header: false where the first line is a row unless it has a name that flr knows.
        time_format: one of `flr_model.config.TIME_FORMATS` or a pattern of strptime.
        remembered_format: likewise, of the remembered column of times.
        time: false where there are no times, and rows are in their order.
        item_text: what the model reads of an item, as `flr_model.data.item_text` takes it.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    remembered: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    delimiter: str | None = None
    header: bool = True
    time_format: str | None = None
    remembered_format: str | None = None
    time: bool = True
    item_text: str = "{title}"

    @classmethod
    def of(cls, files: FilesConfig, role: str, memory: Mapping[str, Any] | None = None) -> Reading:
        """Take what the settings say of one file.

        Args:
            files: the settings.
            role: of the file, one of `ROLES`.
            memory: what `remember` returned for a file of this kind.
        """
        given = {name: value for name, value in files.as_dict().items() if not isinstance(value, bool)}
        values = {name: value and _for_role(value, role) for name, value in given.items()}
        names = {column: values[flag.lstrip("-").replace("-", "_")] for column, flag in FLAGS.items()}
        memory = memory or {}
        return cls(
            names={column: name for column, name in names.items() if name},
            remembered=memory.get("columns", {}),
            encoding=values["encoding"],
            delimiter=_ESCAPES.get(values["delimiter"] or "", values["delimiter"]),
            header=files.header,
            time_format=values["time_format"],
            remembered_format=memory.get("time_format"),
            time=files.time,
            item_text=memory.get("item_text", "{title}"),
        )

    def format_of(self, column: str, name: str) -> str | None:
        """Return the format of a column of times that is known by its name."""
        return self.time_format or (self.remembered_format if self.remembered.get(column) == name else None)


_ESCAPES = {r"\t": "\t", "tab": "\t", "space": " ", "comma": ",", "semicolon": ";"}


def remember(found: Mapping[str, str], rule: TimeRule | None) -> dict[str, Any]:
    """Return what a manifest keeps of how a file was understood: `Reading.of` takes it."""
    kept: dict[str, Any] = {"columns": dict(found), "timed": rule is not None}
    if rule is not None and rule.format != AUTO:
        kept["time_format"] = rule.format
    return kept


def _for_role(value: str, role: str) -> str | None:
    """Return the part of a setting that counts for one file.

    >>> _for_role("2,items=1", "items"), _for_role("2,items=1", "interactions"), _for_role("items=1", "histories")
    ('1', '2', None)
    """
    general, *parts = _ROLE.split(value)
    own = dict(zip(parts[::2], parts[1::2], strict=True))
    chosen = own.get(role, general)
    return None if chosen in ("", AUTO) else chosen
