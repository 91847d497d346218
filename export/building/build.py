"""From a run to a bundle: export through Optimum, proof of parity, int8 behind a gate.

The reader, which every user passes, is also written in int8. The item encoder, which only new titles pass, stays in
fp32: whitening enlarges what int8 loses (mean cosine .91 of its vectors with those of fp32).
"""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from optimum.exporters.onnx import export_models

from flr_export.building.exporters import Exporter, exporter_of
from flr_export.building.gates import INT8_READER
from flr_export.building.parity import validation_sample
from flr_export.building.quantize import graph_bytes, show_constants
from flr_export.item_encoder import TOKENIZER, item_encoder_files
from flr_model.artifacts import BUNDLE, Manifest
from flr_model.config import ExportConfig
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows
from flr_model.errors import ArtifactError
from flr_model.progress import SILENT, Progress
from flr_model.writing import claim

if TYPE_CHECKING:
    from flr_model.nn.run import Run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportReport:
    """What was exported, as it stands in the manifest's content.

    Args:
        bundle: the folder written.
        files: the graph that scoring uses for the reader, and for the steps of a title.
        precision: of the reader that scoring uses, fp32 or int8.
        parity: "fp32": what `Gates.check_fp32` returns; "int8", when tried: what `Gates.try_int8` returns.
        sizes: bytes of each graph.
        metrics: of the precision that scoring uses, on the validation rows.
        seconds: of the export to ONNX, without checks and quantisation.
    """

    bundle: str
    files: dict[str, str]
    precision: str
    parity: dict[str, Any]
    sizes: dict[str, int]
    metrics: dict[str, float]
    seconds: float


def export_bundle(
    run: Run,
    source: Path,
    out: Path,
    *,
    config: ExportConfig,
    data: Path | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> ExportReport:
    """Write a bundle.

    Args:
        run: what to export.
        source: the folder of the run.
        out: the bundle folder.
        config: precision and tolerances.
        data: dataset folder with the validation rows; by default the one that the run names. Without any, rankings are
            not compared and int8, which they decide on, is left out.
        overwrite: replace ``out``.
        progress: counts graphs, and validation rows.

    Raises:
        ArtifactError: if ``out`` exists, or ``data`` is no dataset of this run.
        ConfigError: if a guidance is given and the run has no search to guide.
        GateError: if the exported graphs differ from torch; nothing is written then.
    """
    run.config = run.config.with_guidance(config.guidance)
    dataset = _dataset(run, data)
    inputs = (source, dataset.folder if dataset else data)
    with claim(out, BUNDLE.kind, inputs=inputs, overwrite=overwrite) as place, place.folder() as folder:
        began = time.perf_counter()
        exporter = exporter_of(run)
        export_graphs(exporter, folder, progress)
        seconds = time.perf_counter() - began
        copy_tokenizers(run, folder)
        rows = validation_sample(dataset.rows("valid")) if dataset else HistoryRows.from_lists([])
        parity, files = exporter.judge(folder, rows, config, progress)
        report = _report(out, folder, files, parity, seconds)
        run.catalog.write(folder / "items.parquet")
        np.save(folder / "item_vectors.npy", run.vectors)
        run.evidence.write(folder / "evidence.npz")
        _manifest(run, source, dataset, config, report).write(folder)
    return report


def export_graphs(exporter: Exporter, folder: Path, progress: Progress = SILENT) -> None:
    """Write a run's graphs in fp32; weights above 2 GB lie beside them."""
    graphs = exporter.graphs()
    with progress.task(len(graphs), "graphs") as task:
        for name, graph in graphs.items():
            with _tracing_quietly():
                export_models({name: graph}, folder)
            show_constants(folder / f"{name}.onnx")
            task.advance(1)


def copy_tokenizers(run: Run, folder: Path) -> None:
    """Write the tokenizers of histories and titles."""
    shutil.copyfile(run.backbone.tokenizer_json, folder / TOKENIZER)
    for reader, file in zip(run.item_encoder.readers, item_encoder_files(run.config), strict=True):
        if file.tokenizer != TOKENIZER:
            shutil.copyfile(reader.tokenizer_json, folder / file.tokenizer)


def _report(out: Path, folder: Path, files: dict[str, str], parity: dict[str, Any], seconds: float) -> ExportReport:
    int8 = files["reader"] == INT8_READER
    ranking = parity["int8"] if int8 else parity["fp32"]["ranking"]
    return ExportReport(
        bundle=str(out),
        files=files,
        precision="int8" if int8 else "fp32",
        parity=parity,
        sizes={path.name: graph_bytes(path) for path in sorted(folder.glob("*.onnx"))},
        metrics=ranking["candidate"] if ranking else {},
        seconds=seconds,
    )


def _dataset(run: Run, data: Path | None) -> Dataset | None:
    """Open the dataset of the run; one that is named but not at hand is done without."""
    try:
        dataset = Dataset.of(run.manifest, data)
    except ArtifactError as problem:
        if data is not None:
            raise
        logger.warning("rankings are not compared: %s (%s)", problem.message, problem.hint)
        return None
    if len(dataset.catalog) != len(run.catalog) or (dataset.catalog.item_ids != run.catalog.item_ids).any():
        raise ArtifactError(
            f"{dataset.folder} has other items than the run", hint="pass the dataset that the run was trained on"
        )
    return dataset


def _manifest(run: Run, source: Path, dataset: Dataset | None, config: ExportConfig, report: ExportReport) -> Manifest:
    known = run.manifest.content
    return Manifest(
        kind="bundle",
        settings={
            **run.manifest.settings,
            **{part.table: part.as_dict() for part in run.config.parts()},
            config.table: config.as_dict(),
        },
        content={
            "files": report.files,
            "precision": report.precision,
            "parity": report.parity,
            "sizes": report.sizes,
            "metrics": report.metrics,
            "dataset": str(dataset.folder.resolve()) if dataset else known.get("dataset"),
            "dataset_fingerprint": dataset.fingerprint() if dataset else known.get("dataset_fingerprint"),
            "reading": known.get("reading", {}),
        },
        source=str(source),
    )


@contextmanager
def _tracing_quietly() -> Iterator[None]:
    """Silence what tracing says of every Python number it meets; parity is measured, not assumed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
