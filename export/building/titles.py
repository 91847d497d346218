"""What a bundle of the `title` decoder has besides graphs: tree, output embeddings, proof of parity.

Shapes: R validation rows.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flr_export.building.gates import READER
from flr_export.building.parity import (
    check_parity,
    compare_rankings,
    largest_difference,
    made_up_histories,
    odd_titles,
)
from flr_export.bundle import TITLE_HEAD, TITLE_TREE
from flr_export.runtime import READ, OnnxWriter
from flr_model.config import ExportConfig
from flr_model.data.histories import HistoryRows
from flr_model.errors import GateError
from flr_model.nn.reader import to_numpy
from flr_model.nn.title_head import TitleHead
from flr_model.progress import SILENT, Progress
from flr_model.titles.recommender import TitleRecommender
from flr_model.titles.search import end_prompt

if TYPE_CHECKING:
    from flr_model.nn.run import Run

logger = logging.getLogger(__name__)

MOST_ROWS = 200
"""Validation rows whose lists are compared; each takes a beam search with torch."""

BOTH = 0.5
"""Guidance at which titles and items both count."""

MIN_OVERLAP = 0.99
"""Smallest share of torch's top 10 that the graphs must find."""


def write_title_files(head: TitleHead, folder: Path) -> None:
    """Write the tree and the output embeddings into a bundle folder."""
    head.tree.write(folder / TITLE_TREE)
    np.save(folder / TITLE_HEAD, to_numpy(head.writer.output_embeddings().detach()))


def check_title_parity(
    run: Run,
    head: TitleHead,
    folder: Path,
    rows: HistoryRows,
    config: ExportConfig,
    *,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Compare what ONNX and torch find and score for validation rows.

    Args:
        run: what was exported.
        head: of the run.
        folder: holds the graphs, the tree and the output embeddings.
        rows: R validation rows; with none, lists are not compared.
        config: tolerance.
        progress: counts rows.

    Returns:
        "differences" by output, and "ranking", a `RankingParity` (None without rows).

    Raises:
        GateError: if a difference is above the tolerance, or the lists agree too little.
    """
    if run.config.title.guidance == 1:  # nothing would be written, and so not compared
        run = replace(run, config=run.config.with_guidance(BOTH))
    torchs = head.recommender(run.ranking_parts())
    writer = OnnxWriter(folder / READER, run.config)
    ours = torchs.with_reader(writer)
    odd = odd_titles(run.catalog.texts.tolist())
    vectors = [one.reader.encode_titles(odd) for one in (torchs, ours)]
    differences = {"item_vectors": largest_difference(*vectors), **_prompt_differences(torchs, ours)}
    ranking = compare_rankings(torchs, ours, rows.subsample(MOST_ROWS), progress=progress) if len(rows) else None
    check_parity(differences, ranking, config.tolerance)
    if ranking is not None and ranking.top10_overlap < MIN_OVERLAP:
        raise GateError(f"ONNX finds only {100 * ranking.top10_overlap:.1f} % of the titles in torch's top 10 lists")
    return {"differences": differences, "ranking": ranking and asdict(ranking)}


def _prompt_differences(torchs: TitleRecommender, ours: TitleRecommender) -> dict[str, float]:
    """Largest differences of what the graphs say of made-up histories of many shapes."""
    worst = dict.fromkeys((*READ, "state"), 0.0)
    titles, n_lags, rng = torchs.catalog.texts.tolist(), len(torchs.evidence.lag_bounds) + 1, np.random.default_rng(0)
    for histories in made_up_histories(len(titles), torchs.max_history, n_lags, rng):
        n_users = len(histories.items)
        latent = torchs.vectors[rng.integers(len(titles), size=n_users)]
        one, other = (r.reader.read(histories, r.vectors, titles) for r in (torchs, ours))
        for name in READ:
            worst[name] = max(worst[name], largest_difference(getattr(one, name), getattr(other, name)))
        prompted = [(r.reader, r.reader.prompt(histories, r.vectors, titles)) for r in (torchs, ours)]
        states = [end_prompt(reader, prompt, latent)[0] for reader, prompt in prompted]
        worst["state"] = max(worst["state"], largest_difference(*states))
    return worst
