"""What is exported of a network with either head, and how it is judged.

`exporter_of` is the one place of this folder that asks for encoding and decoder.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flr_export.building.gates import INT8_READER, READER, Gates
from flr_export.building.graphs import (
    ItemEncoderConfig,
    ItemEncoderModule,
    ItemsInputs,
    ReaderConfig,
    ReaderInputs,
    ReaderModule,
    TextInputs,
)
from flr_export.building.title_graphs import WriterConfig, WriterModule
from flr_export.building.titles import check_title_parity, write_title_files
from flr_export.bundle import TITLE_WRITER
from flr_export.item_encoder import item_encoder_files
from flr_model.config import ExportConfig
from flr_model.data.histories import HistoryRows
from flr_model.nn.catalog_head import CatalogHead
from flr_model.nn.history_encoders import ItemsEncoder
from flr_model.nn.title_head import TitleHead
from flr_model.progress import Progress

if TYPE_CHECKING:
    from flr_model.nn.run import Run

logger = logging.getLogger(__name__)

Graphs = dict[str, tuple[Any, Any]]
"""Modules and Optimum's declarations of them, by name of the graph."""


class Judged(NamedTuple):
    """What a bundle was found to be.

    parity: "fp32": differences and ranking beside torch; "int8" likewise, where it was tried. files: those that scoring
    uses, by role.
    """

    parity: dict[str, Any]
    files: dict[str, str]


class Exporter(ABC):
    """Exports a run.

    Args:
        run: what to export.
        inputs: of the graph that reads histories.
    """

    def __init__(self, run: Run, inputs: ReaderInputs) -> None:
        self.run = run
        self.inputs = inputs

    def graphs(self) -> Graphs:
        """Return what is traced."""
        modules = [ItemEncoderModule(part) for part in self.run.item_encoder.parts()]
        files = item_encoder_files(self.run.config)
        encoders = {
            file.graph.removesuffix(".onnx"): (module, ItemEncoderConfig(module.config))
            for file, module in zip(files, modules, strict=True)
        }
        return {**self.network_graphs(), **encoders}

    @abstractmethod
    def network_graphs(self) -> Graphs:
        """Return what is traced of model and head, the graph ``reader`` among it."""

    @abstractmethod
    def judge(self, folder: Path, rows: HistoryRows, config: ExportConfig, progress: Progress) -> Judged:
        """Write what the graphs need besides, pass the gates, and choose the files that scoring uses.

        Args:
            folder: holds the fp32 graphs.
            rows: R validation rows; with none, rankings are not compared.
            config: precision and tolerances.
            progress: counts rows.

        Raises:
            GateError: if the graphs differ from torch.
        """


class CatalogExporter(Exporter):
    """Exports a run that scores items.

    Args:
        run: what to export.
        head: of the run.
        inputs: of the graph that reads histories.
    """

    def __init__(self, run: Run, head: CatalogHead, inputs: ReaderInputs) -> None:
        super().__init__(run, inputs)
        self.head = head

    def network_graphs(self) -> Graphs:
        """Return the reader, which ends with queries."""
        declaration = ReaderConfig(self.run.backbone.lm.config, self.inputs)
        return {"reader": (ReaderModule(self.run.model, self.head.decoder), declaration)}

    def judge(self, folder: Path, rows: HistoryRows, config: ExportConfig, progress: Progress) -> Judged:
        """Compare fp32 with torch, and try int8."""
        torchs = self.head.factors_recommender(self.run.ranking_parts())
        gates = Gates(self.run, torchs, folder, rows, config, progress=progress)
        parity: dict[str, Any] = {"fp32": gates.check_fp32()}
        files = {"reader": READER}
        if config.precision == "int8":
            parity["int8"] = gates.try_int8()
            if parity["int8"] and parity["int8"]["passed"]:
                files["reader"] = INT8_READER
        return Judged(parity, files)


class TitleExporter(CatalogExporter):
    """Exports a run that writes titles, in fp32 only.

    Args:
        run: what to export.
        head: of the run.
        inputs: of the graph that reads histories.
    """

    head: TitleHead

    def __init__(self, run: Run, head: TitleHead, inputs: ReaderInputs) -> None:
        super().__init__(run, head, inputs)
        head.writer.encoder.trunk.bf16 = False  # torch is to be compared in what is exported

    def network_graphs(self) -> Graphs:
        """Return the reader of the factors, and what writes."""
        writer = WriterModule(self.head.writer)
        declaration = WriterConfig(writer.config, self.inputs.embedding_size)
        return {**super().network_graphs(), TITLE_WRITER.removesuffix(".onnx"): (writer, declaration)}

    def judge(self, folder: Path, rows: HistoryRows, config: ExportConfig, progress: Progress) -> Judged:
        """Write tree and output embeddings, and compare what ONNX and torch find."""
        if config.precision == "int8":
            logger.info("the graphs of --decoder title stay in fp32")
        write_title_files(self.head, folder)
        files = {"reader": READER, "title_writer": TITLE_WRITER}
        parity = check_title_parity(self.run, self.head, folder, rows, config, progress=progress)
        return Judged({"fp32": parity}, files)


def exporter_of(run: Run) -> Exporter:
    """Choose what exports a run."""
    size = run.config.embedding_size
    inputs = ItemsInputs(size) if isinstance(run.model.encoder, ItemsEncoder) else TextInputs(size)
    if isinstance(run.head, TitleHead):
        return TitleExporter(run, run.head, inputs)
    assert isinstance(run.head, CatalogHead)
    return CatalogExporter(run, run.head, inputs)
