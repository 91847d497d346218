"""Scoring a file of histories: a stream of users in, a stream of recommendations out, no row lost.

Reading, the network and writing overlap; memory does not grow with the number of users (wide form).
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flr_export.scoring.batching import FIRST_POSITIONS, BatchLimit
from flr_export.scoring.chunks import Chunk, Scoring, read_candidates, usable_cores, why_rejected
from flr_export.scoring.inputs import HistoryFile, Shard
from flr_export.scoring.new_items import read_new_items, with_new_items
from flr_export.scoring.outputs import Counts, Output, Reject, claimed
from flr_export.scoring.prefetch import prefetch
from flr_export.scoring.report import ScoreReport, report_of
from flr_export.scoring.rules import ItemRules
from flr_export.scoring.sinks import result_columns, result_table
from flr_export.sessions import on_gpu
from flr_model import __version__
from flr_model.artifacts import MANIFEST
from flr_model.config import FilesConfig, ScoreConfig
from flr_model.data.histories import PAD
from flr_model.errors import ConfigError, DataError, FlrError, Interrupted
from flr_model.files.reading import Reading
from flr_model.progress import SILENT, Progress, Task
from flr_model.ranking.catalog import index_serves
from flr_model.ranking.recommender import Ranking, Recommender

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What is scored, and how; the arguments are those of `score_file`."""

    recommender: Recommender
    histories: Path
    config: ScoreConfig
    files: FilesConfig
    form: str
    items: Path | None
    candidates: Path | None
    rules: ItemRules
    shard: Shard
    bundle: Path | None

    def inputs(self) -> tuple[Path | None, ...]:
        """Return all that is read."""
        rules = self.rules
        return self.bundle, self.histories, self.items, self.candidates, rules.only, rules.exclude, rules.boost

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for an interrupted run to be resumed."""
        bundle = self.bundle
        return {
            "the bundle": None if bundle is None else hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest(),
            "the histories": _stamp(self.histories),
            "--items": _stamp(self.items),
            "--candidates": _stamp(self.candidates),
            "--only-items": _stamp(self.rules.only),
            "--exclude-items": _stamp(self.rules.exclude),
            "--boost": _stamp(self.rules.boost),
            "--max-per": None if self.rules.most_per is None else str(self.rules.most_per),
            "--shards": f"{self.shard.number}/{self.shard.count}",
            "the columns": {**self.files.as_dict(), "form": self.form},
            "settings": {name: value for name, value in self.config.as_dict().items() if name != "threads"},
            "flr": __version__,
        }

    def reading(self, of: str, like: str) -> Reading:
        """Return how a file is read: as asked for, or as the bundle remembers of the file that it is like."""
        memory: dict[str, Any] = {}
        if self.bundle is not None:
            memory = json.loads((self.bundle / MANIFEST).read_text("utf-8"))["content"].get("reading", {})
        return Reading.of(self.files, of, memory.get(like))

    def source(self) -> HistoryFile:
        """Open the histories."""
        return HistoryFile.open(self.histories, self.reading("histories", "interactions"), self.form)

    def run(self, source: HistoryFile, output: Output, progress: Progress) -> int:
        """Rank what is not done yet, and return how many users were done before."""
        before = output.counts.users
        if output.done:
            return before
        recommender = self.recommender
        if self.items is not None:
            known = read_new_items(self.items, self.reading("items", "items"), recommender)
            recommender = with_new_items(recommender, known)
        allowed = None
        if self.candidates is not None:
            reading = self.reading("candidates", "interactions")
            allowed = read_candidates(self.candidates, recommender.catalog, reading)
        offered = self.rules.offered(recommender.catalog, lambda role: self.reading(role, "interactions"))
        boost = self.rules.factors(recommender.catalog, self.reading("boost", "interactions"))
        limit = None if self.rules.most_per is None else self.rules.most_per.of(recommender.catalog)
        if self.config.index == "ann" and (boost is not None or not index_serves(offered, self.config.top_k)):
            logger.warning("--index ann is not used: it would miss items that the rules leave or boost")
        if self.config.index == "ann" and limit is not None:
            raise ConfigError("--max-per looks deeper than an index does", hint="leave out --index ann")
        if boost is not None and not recommender.scores_items:
            raise ConfigError("--boost is for bundles of --decoder catalog, or exported with --guidance 1")
        work = Scoring(recommender, self.config, allowed, offered, boost, limit, *means(self.config))
        _run(work, source, self.shard, output, progress)
        return before


def score_file(
    recommender: Recommender,
    histories: Path,
    out: Path,
    *,
    config: ScoreConfig,
    files: FilesConfig | None = None,
    form: str = "auto",
    items: Path | None = None,
    candidates: Path | None = None,
    rules: ItemRules | None = None,
    shard: Shard | None = None,
    bundle: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress = SILENT,
) -> ScoreReport:
    """Recommend items for every user of a file.

    Args:
        recommender: what `flr_export.runtime.load_bundle` returns, or a torch one.
        histories: CSV or Parquet, long or wide form (`flr_export.scoring.inputs`). Every item of a user is history.
        out: CSV, or Parquet if it ends so; what cannot be scored goes to ``<out>.rejects.csv``.
        config: how many items, which of them, and how.
        files: how the input files are read, beyond what the bundle remembers.
        form: of the histories: auto, long or wide.
        items: titles by which items that the recommender does not know are used and recommended.
        candidates: pairs of user and item; only these are ranked, and a user without any is rejected.
        rules: which items may be recommended to anybody.
        shard: the part of the users to score; None scores all.
        bundle: the bundle's folder, so that ``resume`` notices another one.
        overwrite: replace an existing result.
        resume: go on where an interrupted run with the same arguments (threads aside) stopped, if any; CSV only.
        progress: told of users.

    Raises:
        ArtifactError: if the result exists already.
        ConfigError: if the run cannot be resumed, the result would replace an input, or there is nothing to index.
        DataError: if a file cannot be used, nobody can be scored, or with ``config.strict`` at the first reject.
        Interrupted: if stopped from the keyboard.
        NothingToDo: if there is nothing to resume, because the result is finished.
    """
    started = time.monotonic()
    given = files or FilesConfig(), form, items, candidates, rules or ItemRules(), shard or Shard(), bundle
    job = Job(recommender, histories, config, *given)
    source = job.source()
    with claimed(out, job.identity(), inputs=job.inputs(), overwrite=overwrite, resume=resume) as output:
        before = job.run(source, output, progress)
        output.finish()
    return report_of(out, output.rejects, output.counts, before, time.monotonic() - started)


def means(config: ScoreConfig) -> tuple[int, BatchLimit]:
    """Return how many batches are ranked at once, and how large they are; a GPU takes few large ones."""
    if on_gpu():
        return 2, BatchLimit(FIRST_POSITIONS, grows=True)
    return config.threads or usable_cores(), BatchLimit()


def _run(work: Scoring, source: HistoryFile, shard: Shard, output: Output, progress: Progress) -> None:
    """Write what the stream gives; leave a state to resume from unless the input itself is at fault."""
    header = result_columns(work.recommender.n_factors, source=work.popular is not None)
    output.start(header, escape_formulas=work.config.escape_formulas)
    task: Task | None = None
    try:
        entries = filter(shard.holds, source.entries())
        with ExitStack() as stack, closing(prefetch(work.ranked(entries, output.counts.entries))) as stream:
            for chunk, ranking in stream:
                if task is None:
                    total = source.n_users and -(-source.n_users // shard.count)
                    task = stack.enter_context(progress.task(total, "users"))
                    task.advance(output.counts.users)
                output.commit(_write(work, source.table.path, output, chunk, ranking))
                task.advance(sum(entry.is_user for entry in chunk.entries), rejected=output.counts.rejected)
        _check(source.table.path, output.counts, whole=shard.count == 1)
    except KeyboardInterrupt:
        output.stop()
        raise Interrupted(
            f"stopped after {output.counts.users:,} users; {output.out} is not written yet",
            hint="go on with the same command and --resume" if output.resumable else "run the command again",
        ) from None
    except DataError:
        output.discard()
        raise
    except BaseException:
        output.stop()
        raise


def _write(work: Scoring, path: Path, output: Output, chunk: Chunk, ranking: Ranking | None) -> Counts:
    """Write one chunk and return the new counts.

    Raises:
        DataError: with ``strict``, if an entry is rejected.
    """
    table: list[np.ndarray[Any, Any]] = []
    if ranking is not None:
        sources = chunk.sources if work.popular else None
        table = result_table(work.recommender.catalog, chunk.users, ranking, sources)
    reasons = why_rejected(chunk, ranking)
    rejects = [_reject(chunk, number, reasons[number]) for number in sorted(reasons)]
    popular = [_reject(chunk, number, reason) for number, reason in chunk.popular.items() if number not in reasons]
    if rejects and work.config.strict:
        raise DataError(
            f"{path} {_shown(rejects[0])}",
            hint="correct it, or go without --strict to collect rejects",
        )
    output.write(table, rejects)
    old = output.counts
    rejected = sum(chunk.entries[number].is_user for number in reasons)
    return Counts(
        entries=old.entries + len(chunk.entries),
        users=old.users + sum(entry.is_user for entry in chunk.entries),
        scored=old.scored + (0 if ranking is None else int((ranking.items[:, 0] != PAD).sum())),
        popular=old.popular + len(popular),
        popular_samples=(old.popular_samples + [_shown(user) for user in popular[:3]])[:3],
        rejected=old.rejected + rejected,
        broken_lines=old.broken_lines + len(rejects) - rejected,
        rows=old.rows + (len(table[0]) if table else 0),
        unknown=old.unknown + len(chunk.unknown),
        unknown_samples=list(dict.fromkeys(old.unknown_samples + chunk.unknown))[:3],
        reject_samples=(old.reject_samples + [_shown(reject) for reject in rejects[:3]])[:3],
    )


def _check(path: Path, counts: Counts, *, whole: bool) -> None:
    """Nobody may be missing, and somebody must have been scored."""
    if counts.users != counts.scored + counts.rejected:
        raise FlrError(f"{counts.users} users were read, but {counts.scored} scored and {counts.rejected} rejected")
    if counts.unknown:
        logger.warning(
            "%d interactions are with unknown items, for instance %s; --items FILE with their titles lets them count",
            counts.unknown,
            ", ".join(counts.unknown_samples),
        )
    if counts.popular:
        _say_popular(path, counts)
    if counts.scored or not whole:
        return
    raise DataError(
        f"none of the {counts.users} users of {path} can be scored: {'; '.join(counts.reject_samples)}",
        hint="check that the item ids are those of the bundle, and name the columns with --user-col and --item-col",
    )


def _say_popular(path: Path, counts: Counts) -> None:
    samples = "; ".join(counts.popular_samples)
    if counts.popular < counts.scored:
        logger.info("--fallback popular: the most popular items for %d users, for instance %s", counts.popular, samples)
        return
    logger.warning(
        "%s: no user has a known item: all of them get the most popular items (%s); if this is not meant, check "
        "that the item ids are those of the bundle, and name the columns with --user-col and --item-col",
        path,
        samples,
    )


def _reject(chunk: Chunk, number: int, reason: str) -> Reject:
    return Reject(chunk.entries[number].line, chunk.entries[number].user, reason)


def _shown(reject: Reject) -> str:
    user = f" (user {reject.user})" if reject.user else ""
    return f"line {reject.line}{user}: {reject.reason}"


def _stamp(path: Path | None) -> str | None:
    if path is None or not path.exists():
        return None
    parts = [path] if path.is_file() else sorted(path.iterdir())
    return "; ".join(f"{part.stat().st_size} bytes, changed at {part.stat().st_mtime_ns}" for part in parts)
