"""Whether a model is better, in a sentence: what the paired difference allows to say, and no more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from flr_model.evaluation.result import AGAINST, COMPARED, RECS, Difference, EvaluationReport

NAMES = {
    "pop": "popularity",
    "cooc": "co-occurrence",
    "itemknn": "item neighbours (ItemKNN)",
    "ease": "EASE",
    "als": "matrix factorization (ALS)",
}


def names_of(report: EvaluationReport, taken: Collection[str] = ()) -> dict[str, str]:
    """Return what each scorer beside the model is called, by its name in the evaluation.

    Args:
        report: the evaluation.
        taken: names of others; a file or folder called so has its whole path for a name.
    """
    names = {name: NAMES.get(name, name) for name in report.baselines}
    for name, where in ((RECS, "file"), (AGAINST, "source")):
        if name in names:
            path = Path(report.about[name][where])
            names[name] = str(path) if path.name in {*taken, *names.values()} else path.name
    return names


def strongest(report: EvaluationReport) -> str:
    """Return the name of the best baseline by NDCG@10."""
    return max(report.baselines, key=lambda name: report.baselines[name].metrics[COMPARED])


def verdict(report: EvaluationReport, names: Mapping[str, str]) -> str:
    """Compare the model with the best of the others.

    Args:
        report: the evaluation.
        names: what the others are called, by their names in it.
    """
    best = strongest(report)
    whose = f"{names[best]} (the best of the {len(names)} beside it)" if len(names) > 1 else names[best]
    rows = report.model.protocol["rows"]
    return f"{compared(report.differences[best][COMPARED], whose)} ({COMPARED} of {rows:,} rows, 95 % interval)."


def compared(difference: Difference, other: str) -> str:
    r"""Say how a scorer stands to another one.

    >>> compared(Difference(0.02, 0.01, 0.03, (0.081, 0.219)), "co-occurrence")
    'Better than co-occurrence by 8 to 22\xa0%'
    >>> compared(Difference(0.0, -0.01, 0.01, (-0.05, 0.04)), "co-occurrence")
    'Cannot be told apart from co-occurrence: between 5\xa0% worse and 4\xa0% better'
    >>> compared(Difference(-0.02, -0.03, -0.01, None), "ours.csv")
    'Worse than ours.csv by 0.0100 to 0.0300'
    >>> compared(Difference(0.02, None, None, None), "ours.csv")
    'On average better than ours.csv by 0.0200, which may be chance: no interval was asked for'
    >>> compared(Difference(0.0, 0.0, 0.0, (0.0, 0.0)), "a copy")
    'Equal to a copy in every row'
    """
    low, high = difference.low, difference.high
    if low is None or high is None:
        word = "better" if difference.mean >= 0 else "worse"
        size = abs(difference.mean)
        return f"On average {word} than {other} by {size:.4f}, which may be chance: no interval was asked for"
    relative = difference.relative
    low, high = relative or (low, high)
    if low == high == 0:
        return f"Equal to {other} in every row"
    if low > 0:
        return f"Better than {other} by {_span(low, high, relative)}"
    if high < 0:
        return f"Worse than {other} by {_span(-high, -low, relative)}"
    worse, better = (_span(size, size, relative) for size in (abs(low), high))
    return f"Cannot be told apart from {other}: between {worse} worse and {better} better"


def _span(low: float, high: float, relative: tuple[float, float] | None) -> str:
    first, last = (f"{size:.4f}" if relative is None else f"{100 * size:.0f}" for size in (low, high))
    return (first if first == last else f"{first} to {last}") + ("\N{NO-BREAK SPACE}%" if relative else "")
