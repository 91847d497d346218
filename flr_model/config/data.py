"""Settings of files and of `flr prepare`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, ClassVar

from flr_model.config.settings import FILES, Settings, setting

TIME_FORMATS = ("seconds", "milliseconds", "yyyymmdd", "excel", "day-first", "month-first")
"""Values of --time-format beside "auto" and patterns of strptime."""

TIE_ORDERS = ("file", "random")
"""Values of --tie-order beside "auto"."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(Settings):
    """How raw interactions become rows of histories."""

    table: ClassVar[str] = "prepare"

    split: str = setting(
        "temporal",
        "how validation and test rows are held out: the latest of all users, or the last items of each user",
        choices=("temporal", "leave-one-out"),
    )
    valid_fraction: float = setting(
        0.1, "share of the rows held out for validation", low=0.0, high=0.9, only={"split": ("temporal",)}
    )
    test_fraction: float = setting(
        0.1, "share of the rows held out for the test", low=0.0, high=0.9, only={"split": ("temporal",)}
    )
    tie_order: str | None = setting(
        None,
        "order of a user's interactions of one moment, such as the lines of an invoice: as in the file, or drawn at "
        "random, so that the order of the file cannot tell what comes next; auto draws it where most rows have the "
        "time of the interaction before",
        choices=TIE_ORDERS,
        auto="auto",
    )
    k_core: int = setting(1, "keep only users and items with at least this many interactions; 1 keeps all", low=1)
    item_text: str = setting(
        "{title}",
        "what the model reads of an item, made of columns of the items file, for instance '{title}. {brand}'; people "
        "still see the title",
    )
    strict: bool = setting(False, "refuse a file at its first row that cannot be read, instead of leaving it out")
    max_history: int = setting(
        20,
        "largest number of history items in a row, newest kept; older ones are remembered as seen items",
        low=1,
        high=10_000,
    )

    def problems(self) -> list[str]:
        """The two held-out shares must leave something to train on."""
        if self.valid_fraction + self.test_fraction >= 1:
            return ["--valid-fraction and --test-fraction leave no rows to train on"]
        return []


_OF_ONE = "of one file alone: items=NAME, as in 2,items=1"


def _found(text: str) -> Any:
    """Declare a setting that the content of the files answers where it is not given."""
    return setting(None, text, auto="auto", panel=FILES)


@dataclass(frozen=True, kw_only=True)
class FilesConfig(Settings):
    """How the files of interactions, items and histories are read; None finds it from the content."""

    table: ClassVar[str] = "files"

    user_col: str | None = _found(f"column of the users, by name, or by number where there is no header; {_OF_ONE}")
    item_col: str | None = _found("column of the items")
    time_col: str | None = _found("column of the times")
    title_col: str | None = _found("column of the titles")
    history_col: str | None = _found("column of the lists of a ready-made split")
    history_time_col: str | None = _found("column of the lists of their times")
    time: bool = setting(True, "there are times; without them rows count as ordered, oldest first", panel=FILES)
    time_format: str | None = _found(f"of times: {', '.join(TIME_FORMATS)}, or a pattern such as %d.%m.%y")
    encoding: str | None = _found("of text, for instance cp1251; of one file alone: items=cp1251")
    delimiter: str | None = _found("of text: any characters, or tab or space; of one file alone: items=tab")
    header: bool = setting(
        True, "the first line names the columns; without: only where flr knows one of its names", panel=FILES
    )

    def problems(self) -> list[str]:
        """Formats and encodings must exist."""
        problems = []
        if self.time_format is not None and self.time_format not in TIME_FORMATS and not _is_pattern(self.time_format):
            problems.append(
                f"--time-format is {self.time_format!r}, not one of auto, {', '.join(TIME_FORMATS)}; nor a pattern of "
                "dates such as %d.%m.%y"
            )
        for name in (self.encoding or "auto").replace("=", ",").split(",")[-1:]:
            try:
                "".encode("utf-8" if name == "auto" else name)
            except (LookupError, ValueError):  # ValueError: of codecs that are no encodings of text
                problems.append(f"--encoding is {name!r}, which Python does not know")
        return problems


def _is_pattern(text: str) -> bool:
    """Say whether dates can be written and read by a pattern.

    >>> _is_pattern("%d.%m.%y"), _is_pattern("%Q"), _is_pattern("%Y %Y"), _is_pattern("day first")
    (True, False, False, False)
    """
    try:
        moment = datetime(2000, 12, 31, tzinfo=timezone.utc)
        return "%" in text and bool(datetime.strptime(moment.strftime(text), text))
    except (ValueError, re.error):
        return False
