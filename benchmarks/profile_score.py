"""Where the time of `flr score` goes: seconds of one core by step, and of the network by operator.

usage: profile_score.py BUNDLE HISTORIES
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from rich.table import Table
from stages import console

from flr_export.bundle import Bundle
from flr_export.runtime import load_bundle
from flr_export.scoring.batching import POSITIONS, batches
from flr_export.scoring.chunks import Scoring
from flr_export.scoring.inputs import HistoryFile
from flr_export.scoring.sinks import CsvSink, result_columns, result_table
from flr_model.config import ScoreConfig
from flr_model.data.histories import HistoryRows
from flr_model.ranking.candidates import UNSEEN
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.ranking.lags import PaddedHistories
from flr_model.ranking.mixture import Mixture
from flr_model.ranking.parts import Parts
from flr_model.ranking.recommender import Ranking, UserStates, columns_for
from flr_model.ranking.topk import Best

TOP_OPERATORS = 12
ROUNDS = 8
"""Every operator counts with the least time of these rounds, so that other work on the machine counts little."""


def main() -> None:
    """Time each step on its own, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("histories", type=Path)
    given = parser.parse_args()
    recommender = load_bundle(given.bundle, threads=1)
    steps: collections.Counter[str] = collections.Counter()

    def timed(step: str, call: Callable[..., Any], *arguments: Any) -> Any:
        began = time.thread_time()
        result = call(*arguments)
        steps[step] += time.thread_time() - began
        return result

    work = Scoring(recommender, ScoreConfig())
    source = HistoryFile.open(given.histories)
    entries = timed("read the file", list, source.entries())
    chunks = timed("look up items, build histories", list, work.chunks(iter(entries)))
    with tempfile.TemporaryDirectory() as folder:
        sink = CsvSink(Path(folder) / "recs.csv", result_columns(recommender.n_factors))
        for chunk in chunks:
            for part in batches(np.clip(chunk.rows.lengths, 1, recommender.max_history), POSITIONS):
                rows = chunk.rows.select(part)
                states = timed("network", recommender.states, rows)
                mixture = timed("counts", recommender.mixture, rows, states)
                best = timed("catalogue product and top 10", mixture.best, UNSEEN.hidden(rows), 10)
                timed("explanation", explained, recommender, mixture, states, rows, best)
            ranking = recommender.recommend(chunk.rows, 10)
            names = [chunk.entries[member].user for member in chunk.members]
            table = result_table(recommender.catalog, names, ranking)
            timed("write the result", sink.write, table)
    n_users = sum(len(chunk.rows) for chunk in chunks)
    show(f"{n_users:,} users, one core", {name: 1e6 * seconds / n_users for name, seconds in steps.items()})
    operators = network(given.bundle, recommender, chunks[-1].rows)
    show("the network by operator, one core", dict(operators.most_common(TOP_OPERATORS)))


def explained(
    recommender: CatalogRecommender, mixture: Mixture, states: UserStates, rows: HistoryRows, best: Best
) -> Ranking:
    """Take recommendations apart, as `CatalogRecommender.recommend` does."""
    shares = mixture.shares(best.items)
    parts = Parts.of(recommender.evidence, mixture, states, rows, best.items)
    return Ranking(best.items, best.scores, shares, parts.counted(shares), parts.because(parts.carried(shares)))


def network(bundle: Path, recommender: CatalogRecommender, rows: HistoryRows) -> collections.Counter[str]:
    """Return the microseconds a user by operator, over the batches of one chunk."""
    import onnxruntime  # after flr, which switches its telemetry off

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(tempfile.gettempdir()) / "flr-profile")
    session = onnxruntime.InferenceSession(str(Bundle.open(bundle).reader), options)
    titles = recommender.catalog.titles.tolist()
    parts = list(batches(np.clip(rows.lengths, 1, recommender.max_history), POSITIONS))
    for part in ROUNDS * parts:
        batch = rows.select(part)
        columns = columns_for(batch, recommender.max_history)
        histories = PaddedHistories.of(batch, columns, recommender.evidence.lag_bounds)
        feeds = recommender.reader.feeds(histories, recommender.vectors, titles)
        session.run(None, {node.name: feeds[node.name] for node in session.get_inputs()})
    profile = Path(session.end_profiling())
    events = [event for event in json.loads(profile.read_text()) if event.get("name", "").endswith("_kernel_time")]
    least = np.asarray([event["dur"] for event in events]).reshape(ROUNDS, -1).min(axis=0)
    spent: collections.Counter[str] = collections.Counter()
    for event, duration in zip(events, least.tolist(), strict=False):
        spent[event["args"]["op_name"]] += duration / len(rows)
    profile.unlink()
    return spent


def show(title: str, values: dict[str, float]) -> None:
    """Print microseconds a user and shares."""
    table = Table(title=title, title_justify="left")
    for column in ("", "microseconds a user", "share"):
        table.add_column(column, justify="right" if column else "left")
    for name, value in sorted(values.items(), key=lambda pair: -pair[1]):
        table.add_row(name, f"{value:.0f}", f"{100 * value / sum(values.values()):.0f} %")
    console.print(table)


if __name__ == "__main__":
    main()
