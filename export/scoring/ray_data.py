"""Scoring a data set of many files on many machines with Ray Data: the same scorer in every worker.

    import ray
    from pathlib import Path
    from flr_export.scoring.ray_data import score_dataset

    scored = score_dataset(Path("bundle"), ray.data.read_parquet("histories/"), workers=8)
    scored.write_parquet("recommendations/")

A row of the data set is a user with a list of items, oldest first (the wide form of `flr score`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from flr_export.runtime import load_bundle
from flr_export.scoring.chunks import Scoring, why_rejected
from flr_export.scoring.inputs import wide_entry
from flr_export.scoring.outputs import REJECT_COLUMNS
from flr_export.scoring.sinks import result_columns, result_schema, result_table
from flr_model import columns
from flr_model.config import ScoreConfig
from flr_model.files.lists import ListReader
from flr_model.files.rows import Row
from flr_model.files.times import TimeRule

REASON = REJECT_COLUMNS[-1]


class BatchScorer:
    """Scores tables of users; every Ray worker makes one, which opens the bundle once.

    Args:
        bundle: the folder, at the same place on every machine.
        config: how many items, and which.
        names: of the columns of user, items and, if there is a third one, times.
    """

    def __init__(self, bundle: Path, config: ScoreConfig, names: tuple[str, ...]) -> None:
        self._work = Scoring(load_bundle(bundle, threads=1), config)
        self._names = names
        self._reader = ListReader(rule=TimeRule() if len(names) > 2 else None)
        header = result_columns(self._work.recommender.n_factors, source=self._work.popular is not None)
        self._schema = result_schema(header).append(pa.field(REASON, pa.string()))

    def __call__(self, users: pa.Table) -> pa.Table:
        """Return the columns of a result and `reason`, which alone is set for a user who cannot be scored."""
        rows = zip(*(users.column(name).to_pylist() for name in self._names), strict=True)
        chunk, ranking = self._work.rank_all(
            [wide_entry(Row(line, list(row)), self._reader) for line, row in enumerate(rows, 1)]
        )
        reasons = why_rejected(chunk, ranking)
        rejected = {columns.USER: [chunk.entries[n].user for n in reasons], REASON: list(reasons.values())}
        parts = [self._table(rejected, len(reasons))]
        if ranking is not None:
            sources = chunk.sources if self._work.popular else None
            table = result_table(self._work.recommender.catalog, chunk.users, ranking, sources)
            parts.append(self._table(dict(zip(self._schema.names[:-1], table, strict=True)), len(table[0])))
        return pa.concat_tables(parts)

    def _table(self, values: dict[str, Any], n: int) -> pa.Table:
        arrays = [pa.array(values.get(field.name, [None] * n), field.type) for field in self._schema]
        return pa.Table.from_arrays(arrays, schema=self._schema)


def score_dataset(
    bundle: Path,
    users: Any,
    *,
    config: ScoreConfig | None = None,
    names: tuple[str, ...] = (columns.USER, columns.HISTORY),
    workers: int = 1,
) -> Any:
    """Score a Ray data set.

    Args:
        bundle: made by `flr export --onnx`, at the same place on every machine.
        users: a `ray.data.Dataset` with a row per user.
        config: top_k, allow_seen, fallback and batch_size count.
        names: columns of user, items and, if there is a third name, times.
        workers: processes, each on one core; Ray needs at least one core more, to read.

    Returns:
        A `ray.data.Dataset`, computed when it is consumed: the columns of ``flr score`` and `reason`, which alone is
        set for a user who cannot be scored. Rows of a user stay together; the order of users is Ray's.
    """
    config = config or ScoreConfig()
    return users.map_batches(
        BatchScorer,
        fn_constructor_kwargs={"bundle": bundle, "config": config, "names": names},
        batch_format="pyarrow",
        batch_size=config.batch_size,
        concurrency=workers,
    )
