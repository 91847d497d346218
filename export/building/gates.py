"""The gates of an export: fp32 graphs against torch, int8 graphs against fp32.

Shapes: R validation rows, D width of item vectors.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flr_export.building.parity import (
    RankingParity,
    check_parity,
    compare_rankings,
    shape_differences,
)
from flr_export.building.quantize import graph_bytes, quantize_until
from flr_export.runtime import OnnxReader
from flr_model.config import ExportConfig
from flr_model.data.histories import HistoryRows
from flr_model.progress import SILENT, Progress
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.ranking.lags import PaddedHistories

if TYPE_CHECKING:
    from flr_model.nn.run import Run

logger = logging.getLogger(__name__)

READER = "reader.onnx"
INT8_READER = "reader.int8.onnx"

_PROBE_ROWS = 256
"""Histories on which the scales of int8 are measured."""


class Gates:
    """Judge the graphs of one folder.

    Args:
        run: what was exported.
        torchs: the run's recommender, with torch behind it.
        folder: holds ``reader.onnx`` and what reads titles.
        rows: R validation rows; none at all when the dataset is not at hand.
        config: tolerances.
        progress: counts validation rows.
    """

    def __init__(
        self,
        run: Run,
        torchs: CatalogRecommender,
        folder: Path,
        rows: HistoryRows,
        config: ExportConfig,
        *,
        progress: Progress = SILENT,
    ) -> None:
        self.run = run
        self.folder = folder
        self.rows = rows
        self.config = config
        self.progress = progress
        self.torch = torchs
        self.fp32 = self._recommender(READER)

    def check_fp32(self) -> dict[str, Any]:
        """Compare fp32 with torch.

        Returns:
            "differences" by output over made-up histories, and "ranking", a `RankingParity` (None without rows).

        Raises:
            GateError: if a difference is above the tolerance.
        """
        differences = shape_differences(self.torch.reader, self.fp32.reader, self.torch)
        ranking = None
        if len(self.rows):
            ranking = compare_rankings(self.torch, self.fp32, self.rows, progress=self.progress)
        check_parity(differences, ranking, self.config.tolerance)
        return {"differences": differences, "ranking": ranking and asdict(ranking)}

    def try_int8(self) -> dict[str, Any] | None:
        """Write the int8 reader if one passes.

        Returns:
            The `RankingParity` of the last attempt beside fp32, with "passed", "ndcg_loss", "size" (its share of the
            fp32 file) and the "fp32_layers" it needed; None where there was nothing to judge by or to quantise.
        """
        if not len(self.rows):
            logger.warning("no validation rows to judge int8 by: the bundle scores in fp32")
            return None
        attempts: list[tuple[RankingParity, float]] = []

        def passes(graph: Path) -> bool:
            candidate = self._recommender(graph.name)
            found = compare_rankings(self.fp32, candidate, self.rows, progress=self.progress)
            size = graph_bytes(graph) / graph_bytes(self.folder / READER)
            attempts.append((found, size))
            ranks_alike = (
                found.ndcg_loss <= self.config.max_ndcg_loss and found.top10_overlap >= self.config.min_overlap
            )
            return ranks_alike and size <= self.config.max_size

        feeds = self._reader_feeds(self.rows.select(np.arange(0, len(self.rows), -(-len(self.rows) // _PROBE_ROWS))))
        kept = quantize_until(self.folder / READER, self.folder / INT8_READER, feeds, passes)
        if not attempts:
            return None
        last, size = attempts[-1]
        if kept is None:
            logger.warning(
                "int8 does not pass (top-10 overlap %.3f, NDCG@10 loss %.1f %%, %.0f %% of the size): "
                "the bundle scores in fp32",
                last.top10_overlap,
                100 * last.ndcg_loss,
                100 * size,
            )
        passed = {"passed": kept is not None, "fp32_layers": kept or [], "ndcg_loss": last.ndcg_loss, "size": size}
        return passed | asdict(last)

    def _recommender(self, graph: str) -> CatalogRecommender:
        """Put a graph of the folder behind the recommender."""
        return self.torch.with_reader(OnnxReader(self.folder / graph, self.run.config))

    def _reader_feeds(self, rows: HistoryRows) -> dict[str, npt.NDArray[Any]]:
        """Make the reader's inputs of real histories."""
        histories = PaddedHistories.of(rows, self.run.config.max_history, self.torch.evidence.lag_bounds)
        reader = self.fp32.reader
        assert isinstance(reader, OnnxReader)
        return reader.feeds(histories, self.run.vectors, self.run.catalog.texts.tolist())
