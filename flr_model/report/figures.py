"""The figures of a report: SVG with its text as text, and a description for who cannot see it.

Drawn with matplotlib (extra ``report``).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure

from flr_model.evaluation.result import COMPARED, Difference, Evaluation, EvaluationReport
from flr_model.explain.portraits import Portrait
from flr_model.steering import clean

OWN, OTHER, LINE = "#1b5e8c", "#b9c4cc", "#222222"
"""Of the model, of the others, of intervals; they differ in grey, too."""

WIDTH = 7.2
"""Inches, within the margins of A4 and Letter."""

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a person's "$" is no formula
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
}

LABEL = 36
"""Characters of a label, at most."""

_SVG = "http://www.w3.org/2000/svg"

Interval = tuple[float, float] | None


def accuracy(scorers: Mapping[str, tuple[Evaluation, bool]]) -> str:
    """Draw HR@10 and NDCG@10 of every scorer with their intervals.

    Args:
        scorers: by name, best known first: the evaluation, and whether it is a model of ours.
    """
    metrics = ("HR@10", COMPARED)
    with _figure(0.5 + 0.32 * len(scorers), "accuracy", columns=2) as (figure, axes):
        for axis, metric in zip(axes, metrics, strict=True):
            values = [one.metrics[metric] for one, _ in scorers.values()]
            intervals = [one.intervals.get(metric) for one, _ in scorers.values()]
            colours = [OWN if own else OTHER for _, own in scorers.values()]
            _bars(axis, metric, list(scorers) if axis is axes[0] else [""] * len(scorers), values, intervals, colours)
        told = "; ".join(
            f"{name}: {', '.join(f'{m} {one.metrics[m]:.4f}{_in_words(one.intervals.get(m))}' for m in metrics)}"
            for name, (one, _) in scorers.items()
        )
        return _svg(figure, f"Bars of HR@10 and NDCG@10 with 95 % intervals. {told}.", "accuracy")


def learning(curves: Mapping[str, Mapping[float, float]]) -> str:
    """Draw validation NDCG@10 by epoch, a line per run."""
    with _figure(2.4, "learning") as (figure, (axis,)):
        for place, (name, curve) in enumerate(curves.items()):
            marker = "osD^v"[place % 5]
            colour = OWN if place == 0 else "#777777"
            axis.plot(list(curve), list(curve.values()), marker=marker, color=colour, label=_label(name))
        axis.set_xlabel("epoch (0: before training)")
        axis.set_ylabel(f"validation {COMPARED}")
        axis.xaxis.get_major_locator().set_params(integer=True)
        if len(curves) > 1:
            figure.legend(loc="outside lower center", ncols=2, frameon=False)
        told = "; ".join(
            f"{name}: {', '.join(f'epoch {epoch:g} {value:.4f}' for epoch, value in curve.items())}"
            for name, curve in curves.items()
        )
        return _svg(figure, f"Validation NDCG@10 by epoch. {told}.", "learning")


def segments(report: EvaluationReport, other: str, shown: str) -> str:
    """Draw NDCG@10 by group of rows: the model's bars with intervals, and the best baseline's marks.

    Args:
        report: the evaluation.
        other: name of the baseline in it.
        shown: what the baseline is called.
    """
    groups = [
        (f"{division}: {name}", group, report.baselines[other].segments[division][name])
        for division, by_name in report.model.segments.items()
        for name, group in by_name.items()
    ]
    with _figure(0.7 + 0.26 * len(groups), "segments") as (figure, (axis,)):
        names = [f"{name} ({group['rows']:,})" for name, group, _ in groups]
        values = [group[COMPARED] for _, group, _ in groups]
        intervals = [group["interval"] for _, group, _ in groups]
        _bars(axis, f"{COMPARED} by group (number of rows)", names, values, intervals, [OWN] * len(groups), place=0.02)
        marks = [base[COMPARED] for _, _, base in groups]
        axis.plot(marks, range(len(groups)), "D", color="white", markeredgecolor=LINE, label=_label(shown))
        figure.legend(loc="outside lower center", frameon=False)
        told = "; ".join(
            f"{name}: {group[COMPARED]:.4f}{_in_words(group['interval'])}, {shown} {base[COMPARED]:.4f}"
            for name, group, base in groups
        )
        return _svg(figure, f"NDCG@10 by group. {told}.", "segments")


def factors(portraits: Sequence[Portrait]) -> str:
    """Draw how much and how often each factor speaks."""
    with _figure(0.5 + 0.32 * len(portraits), "factors", columns=2) as (figure, axes):
        labels = [f"factor {portrait.factor}" for portrait in portraits]
        panels = (
            ("mean weight", [portrait.gate for portrait in portraits], labels),
            ("share of users for whom it is strongest", [p.loudest for p in portraits], [""] * len(labels)),
        )
        for axis, (title, values, names) in zip(axes, panels, strict=True):
            _bars(axis, title, names, values, [None] * len(values), [OWN] * len(values), digits=2)
            axis.set_xlim(0, 1)
        told = "; ".join(
            f"factor {p.factor}: mean weight {p.gate:.2f}, strongest for {100 * p.loudest:.0f} % of the users"
            for p in portraits
        )
        return _svg(figure, f"How much and how often each factor speaks. {told}.", "factors")


def differences(found: Mapping[str, Mapping[str, Difference]], name: str) -> str:
    """Draw the paired differences of the first run and others, with their intervals.

    Args:
        found: by the other's name and metric.
        name: of the first run.
    """
    lines = [(f"{other}: {metric}", one) for other, by_metric in found.items() for metric, one in by_metric.items()]
    with _figure(0.6 + 0.3 * len(lines), "differences") as (figure, (axis,)):
        for place, (_, one) in enumerate(lines):
            if one.low is not None and one.high is not None:
                axis.plot([one.low, one.high], [place, place], color=LINE)
            axis.plot([one.mean], [place], "s", color=OWN)
        axis.axvline(0, color=LINE, linewidth=0.8, linestyle="--")
        axis.set_yticks(range(len(lines)), [_label(label) for label, _ in lines])
        axis.set_ylim(len(lines) - 0.5, -0.5)
        axis.set_title(f"{_label(name)} minus the other, by row; right of the line it is better", loc="left")
        told = "; ".join(f"{label}: {one.mean:+.4f}{_in_words(_bounds(one))}" for label, one in lines)
        return _svg(figure, f"Differences of {name} and the others. {told}.", "differences")


def _bars(
    axis: Any,
    title: str,
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[Interval],
    colours: Sequence[str],
    *,
    digits: int = 4,
    place: float = 0.02,
) -> None:
    """Draw horizontal bars, the first on top, with intervals and the values as text."""
    axis.barh(range(len(values)), values, color=colours, height=0.62)
    ends = [max(value, interval[1]) if interval else value for value, interval in zip(values, intervals, strict=True)]
    room = max([*ends, 1e-9])
    for row, (value, interval, end) in enumerate(zip(values, intervals, ends, strict=True)):
        if interval:
            axis.plot(interval, [row, row], color=LINE, linewidth=1.2)
        axis.text(end + place * room, row, f"{value:.{digits}f}", va="center")
    axis.set_yticks(range(len(names)), [*map(_label, names)])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlim(0, 1.2 * room)
    axis.set_title(title, loc="left")


@contextmanager
def _figure(height: float, name: str, *, columns: int = 1) -> Iterator[tuple[Figure, Any]]:
    """Give a figure with panels side by side, in the style of reports; it belongs to no window."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.subplots(1, columns, squeeze=False)[0]


def _svg(figure: Figure, description: str, name: str) -> str:
    """Write a figure as an element of a page, with the description as its alternative text."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = ElementTree.fromstring(stream.getvalue())
    for element in svg.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif "#" in value:
                element.set(key, re.sub(r"(?<=^#)|(?<=url\(#)", f"{name}-", value))
    svg.set("role", "img")
    svg.set("aria-label", clean(description))
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    return ElementTree.tostring(svg, encoding="unicode")


def _label(text: str) -> str:
    """Return a text that a drawing can show, in one line."""
    text = " ".join(clean(text).split())
    return text if len(text) <= LABEL else f"{text[: LABEL - 3]}..."


def _bounds(difference: Difference) -> Interval:
    return None if difference.low is None or difference.high is None else (difference.low, difference.high)


def _in_words(interval: Interval) -> str:
    return "" if interval is None else f" ({interval[0]:.4f} to {interval[1]:.4f})"
