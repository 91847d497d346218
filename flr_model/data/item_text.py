"""What the model reads of an item: a text made of the columns of the items file, as `--item-text` writes it.

``"{title}. {brand} ({year})"`` has a literal before each placeholder and one at the end. Where a value is empty, the
literal before it goes too, and with it the brackets that enclose nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from flr_model import columns
from flr_model.errors import ConfigError

TITLE_ALONE = "{title}"

_PLACE = re.compile(r"\{([^{}]*)\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_OPEN = re.compile(r"\s*[(\[]$")
_CLOSE = re.compile(r"^[)\]]+")
_SEPARATORS = " \t\n.,:;|/-–—·&+"
_EMPTY_BRACKETS = re.compile(r"\s*(\(\s*\)|\[\s*\])")


@dataclass(frozen=True)
class ItemText:
    """A template with placeholders.

    Args:
        template: ``{title}`` and ``{COLUMN}``, each a column of the items file.

    Raises:
        ConfigError: if a brace has no partner, there is no placeholder, or a control character.
    """

    template: str = TITLE_ALONE

    def __post_init__(self) -> None:
        if not self.names or set("{}") & set(_PLACE.sub("", self.template)):
            raise ConfigError(
                f"--item-text is {self.template!r}: placeholders are written as {{title}}, {{COLUMN}}",
                hint="for instance --item-text '{title}. {brand}. {category}'",
            )
        if _CONTROL.search(self.template):
            raise ConfigError(f"--item-text is {self.template!r}: it has a line break or another control character")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The placeholders, in order."""
        return tuple(_PLACE.findall(self.template))

    def unknown(self, known: Iterable[str]) -> list[str]:
        """Return the placeholders that neither the title nor one and only one of the known columns fills."""
        known = (columns.TITLE, *known)
        return [name for name in self.names if len(columns.named(name, known)) != 1]

    def refuse_unknown(self, known: Sequence[str], path: object) -> None:
        """Refuse placeholders that no column has.

        Args:
            known: the columns beside the title.
            path: the file that has them, for the message.

        Raises:
            ConfigError: if there are any, with the known ones named.
        """
        if unknown := [f"{{{name}}}" for name in self.unknown(known)]:
            raise ConfigError(
                f"--item-text has {', '.join(unknown)}, but no such column, or several, are kept of {path}",
                hint=f"it can have {', '.join(f'{{{name}}}' for name in (columns.TITLE, *known))}",
            )

    def empty(self, details: Mapping[str, Collection[str]]) -> list[str]:
        """Return the columns it names that have nothing for any item.

        Args:
            details: (M,) cells by the name of their column.
        """
        named = {column for name in self.names for column in columns.named(name, details)}
        return [column for column in details if column in named and not any(details[column])]

    def of(self, titles: Sequence[str], details: Mapping[str, Sequence[str]]) -> list[str]:
        """Return the text of each of M items; a column that is not there, or several, are empty.

        Args:
            titles: (M,) titles.
            details: (M,) cells by the name of their column.
        """
        cells = {**details, columns.TITLE: titles}
        found = [columns.named(name, cells) for name in self.names]
        rows = zip(*(cells[one[0]] if len(one) == 1 else [""] * len(titles) for one in found), strict=True)
        return [_layout(self.template, tuple(map(bool, row)))(row) for row in rows]


@lru_cache(maxsize=1024)
def _layout(template: str, filled: tuple[bool, ...]) -> Callable[[Sequence[str]], str]:
    """Return what fills a template of which some values are empty.

    >>> _layout("{title}. {brand} ({year})", (True, False, False))(["Blue", "", ""])
    'Blue'
    >>> _layout("{title} ({brand}, {year})", (True, False, True))(["Blue", "", "1971"])
    'Blue (1971)'
    """
    *literals, last = _PLACE.split(template)[::2]
    kept = ""  # NUL stands for a value
    for literal, has_value in zip(literals, filled, strict=True):
        closing = _CLOSE.match(literal)
        closed, literal = (closing[0], literal[closing.end() :]) if closing else ("", literal)
        kept = kept + closed if kept else kept
        if has_value:
            at_start = not kept or kept[-1] in "(["
            kept += (literal.lstrip(_SEPARATORS) if at_start else literal) + "\0"
        elif opening := _OPEN.search(literal):
            kept += opening[0]
    kept = _EMPTY_BRACKETS.sub("", kept + last if kept else "").strip()
    parts = kept.split("\0")

    def fill(values: Sequence[str]) -> str:
        present = [value for value, has_value in zip(values, filled, strict=True) if has_value]
        return parts[0] + "".join(value + part for value, part in zip(present, parts[1:], strict=True))

    return fill
