"""`flr eval`: rank the whole catalogue for every row of a split, beside the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import flr
from flr_cli import console
from flr_cli.options import DataOpt, JsonOpt, OverwriteOpt, command, refuse
from flr_cli.progress import ConsoleProgress
from flr_model.config import EvalConfig, FilesConfig, own_fields
from flr_model.config.settings import COMPARISON

if TYPE_CHECKING:
    from flr_model.evaluation.result import EvaluationReport

SourceArg = Annotated[Path, typer.Argument(metavar="SOURCE", help="Run or bundle to evaluate.", show_default=False)]
FolderOpt = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Folder for the result; default: SOURCE/evaluation/SPLIT."),
]
AgainstOpt = Annotated[
    Path | None,
    typer.Option(
        metavar="SOURCE2", help="Another run or bundle whose evaluation is saved, by row.", rich_help_panel=COMPARISON
    ),
]
RecsOpt = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Recommendations of your own (user, item, rank or score).", rich_help_panel=COMPARISON
    ),
]
OF_RECS = ("user_col", "item_col", "encoding", "delimiter", "header")
"""The settings of `FilesConfig` that a file of recommendations can need."""


@command(EvalConfig, FilesConfig)
def evaluate(
    source: SourceArg,
    eval: EvalConfig,
    files: FilesConfig,
    given: list[str],
    data: DataOpt = None,
    against: AgainstOpt = None,
    recs: RecsOpt = None,
    out: FolderOpt = None,
    json: JsonOpt = False,
    overwrite: OverwriteOpt = False,
) -> None:
    """Measure a run or a bundle on held-out rows: accuracy, segments, coverage, factors, and baselines.

    The result is saved with the run or bundle, so that others can be compared with it.
    """
    _refuse_useless(given, recs, out, overwrite=overwrite)
    report = flr.evaluate(
        source, config=eval, files=files, data=data, against=against, recs=recs,
        out=out, overwrite=overwrite, progress=ConsoleProgress(),
    )  # fmt: skip
    console.emit_json(report.as_dict()) if json else _show(report)


def _refuse_useless(given: list[str], recs: Path | None, out: Path | None, *, overwrite: bool) -> None:
    """Refuse flags without an effect."""
    of_files = [field.name for field in own_fields(FilesConfig) if field.name in given]
    if recs is None:
        refuse(of_files, "without --recs")
    refuse([name for name in of_files if name not in OF_RECS], "on recommendations")
    if overwrite and out is None:
        refuse(["overwrite"], "without --out: with the run or bundle lies its newest evaluation of each split")


def _show(report: EvaluationReport) -> None:
    body = report.as_dict()
    protocol, others = body["protocol"], body["baselines"]
    _beside(
        f"{protocol['split']}: {protocol['rows']:,} rows, {protocol['candidates']:,} candidates by "
        f"{protocol['match']}, seen items {protocol['seen']}, ties {protocol['ties']}",
        ["metric", "model", "95 %"],
        [[name, value, _interval(body["intervals"].get(name))] for name, value in body["metrics"].items()],
        {name: list(metrics.values()) for name, metrics in others.items()},
        most=4,
    )
    if protocol["targets_in_history"] and protocol["seen"] == "removed":
        console.line(
            f"{protocol['targets_in_history']:,} of these rows have a target that their user had before, which is no "
            "candidate and counts as a miss; --allow-seen ranks it"
        )
    groups = [(division, name) for division, by_name in body["segments"].items() for name in by_name]
    found = [(f"{division} {name}", body["segments"][division][name]) for division, name in groups]
    _beside(
        "Segments (others: NDCG@10)",
        ["segment", "rows", "HR@10", "NDCG@10", "95 %"],
        [[name, g["rows"], g["HR@10"], g["NDCG@10"], _interval(g["interval"])] for name, g in found],
        {o: [b[d][name]["NDCG@10"] for d, name in groups] for o, b in body["baseline_segments"].items()},
        most=2,
    )
    console.table(
        "Model minus others, paired by row",
        ["", "metric", "difference", "95 %", "in %"],
        [
            [name, metric, d["mean"], _interval((d["low"], d["high"])), _percent(d["relative"])]
            for name, by_metric in body["differences"].items()
            for metric, d in by_metric.items()
        ],
    )
    for name, facts in report.about.items():
        told = ", ".join(f"{fact.replace('_', ' ')} {value}" for fact, value in facts.items())
        console.line(f"{name}: {told}")
    console.table("Factors", ["figure", "value"], [[name, _figure(v)] for name, v in report.diagnostics.items()])


def _beside(title: str, header: list[str], lines: list[list[Any]], others: dict[str, list[Any]], *, most: int) -> None:
    """Print a table with a column for each other scorer; more than ``most`` are a table of their own, to fit."""
    columns = list(zip(*others.values(), strict=True))
    if len(others) <= most:
        console.table(title, [*header, *others], [[*line, *cells] for line, cells in zip(lines, columns, strict=True)])
    else:
        console.table(title, header, lines)
        rows = [[line[0], *cells] for line, cells in zip(lines, columns, strict=True)]
        console.table("The others", [header[0], *others], rows)


def _interval(bounds: tuple[float | None, float | None] | None) -> str:
    return "-" if bounds is None or bounds[0] is None else f"{bounds[0]:.4f}..{bounds[1]:.4f}"


def _percent(bounds: tuple[float, float] | None) -> str:
    return "-" if bounds is None else f"{100 * bounds[0]:+.0f}..{100 * bounds[1]:+.0f}"


def _figure(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(f"{part:.3f}" for part in value)
    return "-" if value is None else value
