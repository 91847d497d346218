"""`flr eval`: rank the whole catalogue for every row of a split, beside the baselines."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flr_cli import console
from flr_cli.options import DataOpt, JsonOpt, OverwriteOpt, command
from flr_cli.progress import ConsoleProgress
from flr_model.config import EvalConfig
from flr_model.errors import ConfigError, needs_extra

if TYPE_CHECKING:
    from flr_model.artifacts import Manifest
    from flr_model.evaluation.evaluate import EvaluationReport
    from flr_model.ranking.recommender import Recommender

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
    from flr_model.artifacts import open_folder
    from flr_model.data.dataset import Dataset
    from flr_model.evaluation.evaluate import evaluate_with_baselines
    from flr_model.writing import FILE, claim

    manifest = open_folder(source, "run", "bundle")
    if out is not None and out.suffix.lower() != ".parquet":
        raise ConfigError(f"--out {out}: ranks are written as Parquet", hint="name a file that ends in .parquet")
    dataset = Dataset.of(manifest, data)
    inputs = (source, dataset.folder)
    with nullcontext() if out is None else claim(out, FILE, inputs=inputs, overwrite=overwrite) as place:
        recommender = _load(source, manifest, eval.guidance)
        report = evaluate_with_baselines(recommender, dataset, eval, progress=ConsoleProgress())
        if place is not None:
            report.write_ranks(place)
            console.note(f"wrote {out}")
    console.emit_json(report.as_dict()) if json else _show(report)


def _load(source: Path, manifest: Manifest, guidance: float | None) -> Recommender:
    if manifest.kind == "bundle":
        from export.runtime import load_bundle

        return load_bundle(source, guidance=guidance)
    with needs_extra("train"):
        from flr_model.nn.run import load_recommender as load_run

    return load_run(source, guidance=guidance)


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
