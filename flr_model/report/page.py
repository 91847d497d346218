"""The page of a report: what is gathered of runs, and the HTML file that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flr_model import __version__
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows
from flr_model.evaluation.result import COMPARED, Difference
from flr_model.explain.portraits import examples, portraits
from flr_model.ranking.recommender import Recommender
from flr_model.report import figures
from flr_model.report.subject import Subject
from flr_model.report.verdict import compared, names_of, strongest, verdict
from flr_model.steering import clean

TEMPLATE = "page.html"


def page(subjects: Sequence[Subject], recommender: Recommender, dataset: Dataset, rows: HistoryRows) -> str:
    """Write the page.

    Args:
        subjects: what is reported; the first in full, the others beside it.
        recommender: of the first.
        dataset: that it was evaluated on.
        rows: that were ranked.

    Returns:
        HTML without any reference to elsewhere.
    """
    first, others = subjects[0], subjects[1:]
    described = portraits(recommender, rows)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )  # fmt: skip
    return environment.get_template(TEMPLATE).render(
        first=first,
        others=others,
        verdict=verdict(first.evaluation, _names(first, others)),
        verdicts=[compared(found[COMPARED], other.name) for other, found in _differences(first, others)],
        protocol=first.evaluation.model.protocol,
        figures=_figures(subjects, described),
        of_each=_of_each(first, others),
        about={name: _lines(facts) for name, facts in _about(first, others).items()},
        factors_verdict=first.evaluation.diagnostics.get("verdict", ""),
        portraits=described,
        examples=examples(recommender, rows),
        data=_lines(dataset.manifest.content.get("report", {})),
        dataset=dataset.folder.name,
        settings={table: _lines(values) for table, values in first.manifest.settings.items()},
        version=__version__,
        today=date.today().isoformat(),
    )


def _differences(first: Subject, others: Sequence[Subject]) -> list[tuple[Subject, dict[str, Difference]]]:
    return [(other, first.evaluation.model.minus(other.evaluation.model)) for other in others]


def _of_each(first: Subject, others: Sequence[Subject]) -> list[dict[str, Any]]:
    """Return a line per scorer for people: how many of a hundred find what they take next in their first ten."""
    model, names = first.evaluation.model, _names(first, others)
    beside = [(other.name, other.evaluation.model) for other in others]
    beside += [(names[name], found) for name, found in first.evaluation.baselines.items()]
    lines = [(first.name, model, ""), *((n, found, compared(model.minus(found)[COMPARED], n)) for n, found in beside)]
    return [
        {
            "name": name,
            "hits": round(100 * found.metrics["HR@10"], 1),
            "coverage": round(100 * found.coverage, 1),
            "than": than,
        }
        for name, found, than in lines
    ]


def _about(first: Subject, others: Sequence[Subject]) -> dict[str, dict[str, Any]]:
    """Return what is known of the others, by what they are called: settings of baselines, gaps of files."""
    names = _names(first, others)
    return {names[name]: facts for name, facts in first.evaluation.about.items()}


def _names(first: Subject, others: Sequence[Subject]) -> dict[str, str]:
    return names_of(first.evaluation, [first.name, *(other.name for other in others)])


def _figures(subjects: Sequence[Subject], described: Sequence[Any]) -> dict[str, Any]:
    """Draw the figures, by name; None where there is nothing to draw."""
    first = subjects[0]
    report, names = first.evaluation, _names(first, subjects[1:])
    best = strongest(report)
    scorers = {subject.name: (subject.evaluation.model, True) for subject in subjects}
    scorers |= {shown: (report.baselines[name], False) for name, shown in names.items()}
    pairs = {names[name]: found for name, found in report.differences.items()}
    pairs |= {other.name: found for other, found in _differences(first, subjects[1:])}
    curves = {subject.name: subject.curve for subject in subjects if subject.curve}
    drawn = {
        "accuracy": figures.accuracy(scorers),
        "differences": figures.differences(pairs, first.name),
        "learning": figures.learning(curves) if curves else None,
        "segments": figures.segments(report, best, names[best]),
        "factors": figures.factors(described),
    }
    # Their texts are escaped already.
    return {name: None if svg is None else Markup(svg) for name, svg in drawn.items()}


def _lines(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return a line per value, names of nested ones joined."""
    lines = []
    for name, value in values.items():
        label = f"{prefix} {name}".strip().replace("_", " ")
        if isinstance(value, dict):
            lines += _lines(value, label)
        elif name != "examples":
            lines.append((label, _shown(value)))
    return lines


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
