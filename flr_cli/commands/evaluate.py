"""`flr eval`: rank the whole catalogue for every row of a split, beside the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import flr
from flr_cli import console
from flr_cli.options import DataOpt, JsonOpt, OverwriteOpt, command
from flr_cli.progress import ConsoleProgress
from flr_model.config import EvalConfig

if TYPE_CHECKING:
    from flr_model.evaluation.evaluate import EvaluationReport

SourceArg = Annotated[Path, typer.Argument(metavar="SOURCE", help="Run or bundle to evaluate.", show_default=False)]
RanksOpt = Annotated[Path | None, typer.Option("--out", "-o", help="Parquet file for the rank of every row's target.")]


@command(EvalConfig)
def evaluate(
    source: SourceArg,
    eval: EvalConfig,
    data: DataOpt = None,
    out: RanksOpt = None,
    json: JsonOpt = False,
    overwrite: OverwriteOpt = False,
) -> None:
    """Measure a run or a bundle on held-out rows: accuracy, segments, coverage, factors, and two baselines."""
    report = flr.evaluate(source, config=eval, data=data, out=out, overwrite=overwrite, progress=ConsoleProgress())
    if out is not None:
        console.note(f"wrote {out}")
    console.emit_json(report.as_dict()) if json else _show(report)


def _show(report: EvaluationReport) -> None:
    body = report.as_dict()
    protocol, baselines = body["protocol"], body["baselines"]
    console.table(
        f"{protocol['split']}: {protocol['rows']:,} rows, {protocol['candidates']:,} candidates by "
        f"{protocol['match']}, seen items {protocol['seen']}, ties {protocol['ties']}",
        ["metric", "model", "95 %", *baselines],
        [
            [name, value, _interval(body["intervals"].get(name)), *(b[name] for b in baselines.values())]
            for name, value in body["metrics"].items()
        ],
    )
    if protocol["targets_in_history"] and protocol["seen"] == "removed":
        console.line(
            f"{protocol['targets_in_history']:,} of these rows have a target that their user had before, which is no "
            "candidate and counts as a miss; --allow-seen ranks it"
        )
    console.table(
        "Segments (baselines: NDCG@10)",
        ["segment", "rows", "HR@10", "NDCG@10", "95 %", *baselines],
        [
            [
                f"{division} {name}", group["rows"], group["HR@10"], group["NDCG@10"], _interval(group["interval"]),
                *(b[division][name]["NDCG@10"] for b in body["baseline_segments"].values()),
            ]
            for division, groups in body["segments"].items()
            for name, group in groups.items()
        ],
    )  # fmt: skip
    console.table(
        "NDCG@10, model minus baseline, paired by row",
        ["baseline", "difference", "95 %"],
        [[name, mean, _interval((low, high))] for name, (mean, low, high) in report.differences.items()],
    )
    console.table("Factors", ["figure", "value"], [[name, _figure(v)] for name, v in report.diagnostics.items()])


def _interval(bounds: tuple[float, float] | None) -> str:
    return "-" if bounds is None else f"{bounds[0]:.4f}..{bounds[1]:.4f}"


def _figure(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(f"{part:.3f}" for part in value)
    return "-" if value is None else value
