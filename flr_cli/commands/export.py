"""`flr export`: turn a run into a bundle that scores without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import flr
from flr_cli import console
from flr_cli.options import JsonOpt, OutOpt, OverwriteOpt, command, switch
from flr_cli.progress import ConsoleProgress
from flr_model.config import ExportConfig

if TYPE_CHECKING:
    from flr_export.building.build import ExportReport


@command(ExportConfig)
def export(
    run: Annotated[Path, typer.Argument(help="Run made by `flr train` or `flr align`.")],
    out: OutOpt,
    export: ExportConfig,
    onnx: Annotated[bool, switch("--onnx", help="As ONNX graphs, the only format.")] = True,
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="Dataset folder; default: the one it was trained on.")
    ] = None,
    overwrite: OverwriteOpt = False,
    json: JsonOpt = False,
) -> None:
    """Write a bundle: ONNX graphs in fp32 and, when it ranks as well, int8; compared with torch before it is kept.

    flr export run --onnx --out bundle
    """
    report = flr.export(run, out, config=export, data=data, overwrite=overwrite, progress=ConsoleProgress())
    if json:
        console.emit_json(report)
        return
    _show(report)
    console.note(f"next: flr score {out} histories.csv --out recommendations.csv")


def _show(report: ExportReport) -> None:
    fp32, int8 = report.parity["fp32"], report.parity.get("int8")
    console.table(
        "ONNX fp32 beside torch",
        ["output", "largest difference"],
        [[name, f"{value:.1e}"] for name, value in fp32["differences"].items()],
    )
    rankings = {"fp32 beside torch": fp32["ranking"], "int8 beside fp32": int8}
    console.table(
        "Top 10 of validation rows",
        ["graphs", "rows", "overlap", "identical", "difference", "NDCG@10", "beside"],
        [[name, *_ranking(figures)] for name, figures in rankings.items() if figures],
    )
    console.table(
        f"Files of {report.bundle} (scoring uses {report.precision})",
        ["graph", "MB", "used"],
        [
            [name, f"{size / 1e6:,.1f}", "yes" if name in report.files.values() else ""]
            for name, size in report.sizes.items()
        ],
    )


def _ranking(figures: dict[str, Any]) -> list[Any]:
    return [
        figures["rows"],
        figures["top10_overlap"],
        figures["identical_top10"],
        f"{figures['max_score_difference']:.1e}",
        figures["candidate"]["NDCG@10"],
        figures["reference"]["NDCG@10"],
    ]
