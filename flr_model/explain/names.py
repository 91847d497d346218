"""Short names of facets: the distinctive words of the titles that a factor looks at and recommends."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

N_WORDS = 3
"""Words of a name, at most."""

_WORD = re.compile(r"[^\W\d_](?:[^\W_]|['’-](?=[^\W_]))+")
"""Two characters or more, the first a letter: years and numbers name nothing."""


def name_facets(facets: Sequence[Sequence[str]], catalog: Sequence[str]) -> list[str]:
    """Name facets by the words that their titles share and that other titles of the catalogue lack.

    A word scores the number of the facet's titles that have it, times log(M / titles of the catalogue that have it);
    the best ones make the name, equal ones in order of appearance.

    Args:
        facets: the titles of each facet, most important first; all occur in the catalogue.
        catalog: (M,) all titles.

    Returns:
        A name per facet; where no word tells its titles from the others, the first title, "" if there is none.

    >>> catalog = ["The Blue Train", "Blue Notes", "The Red House", "The Road"]
    >>> name_facets([["The Blue Train", "Blue Notes"], ["The Road"], []], catalog)
    ['Blue, Train, Notes', 'Road, The', '']
    """
    spelled: dict[str, str] = {}  # each word as it first occurs
    for word in (word for titles in facets for title in titles for word in _WORD.findall(title)):
        spelled.setdefault(word.casefold(), word)
    known = Counter(word for title in catalog for word in _words(title) if word in spelled)
    return [_name(titles, known, len(catalog), spelled) for titles in facets]


def _name(titles: Sequence[str], known: Counter[str], n_titles: int, spelled: dict[str, str]) -> str:
    found = Counter(word for title in titles for word in _words(title))
    scores = {word: n * math.log(n_titles / known[word]) for word, n in found.items()}
    best = sorted((word for word in scores if scores[word] > 0), key=lambda word: -scores[word])[:N_WORDS]
    return ", ".join(spelled[word] for word in best) or next(iter(titles), "")


def _words(title: str) -> Iterable[str]:
    """Give each word of a title once, in order."""
    return dict.fromkeys(word.casefold() for word in _WORD.findall(title))
