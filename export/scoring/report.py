"""What scoring a file reports."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from flr_export.scoring.outputs import Counts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreReport:
    """What was scored.

    Args:
        users: of the input; ``scored`` of them have recommendations, ``rejected`` are in the rejects file.
        popular: of the scored, users without a usable history, who got the most popular items.
        broken_lines: lines of the long form that were of no use, in the rejects file too.
        rows: recommendations written.
        unknown_interactions: with items that neither the bundle nor ``--items`` knows.
        resumed_from: users that an interrupted run had dealt with.
        seconds: of this run; users_per_second: of this run.
        out: the result. rejects: the rejects file, None if nothing was rejected.
    """

    users: int
    scored: int
    popular: int
    rejected: int
    broken_lines: int
    rows: int
    unknown_interactions: int
    resumed_from: int
    seconds: float
    users_per_second: float
    out: Path
    rejects: Path | None


def report_of(out: Path, rejects: Path | None, counts: Counts, before: int, seconds: float) -> ScoreReport:
    """Sum up a run of so many seconds, before which ``before`` users had been dealt with, and log it."""
    report = ScoreReport(
        users=counts.users,
        scored=counts.scored,
        popular=counts.popular,
        rejected=counts.rejected,
        broken_lines=counts.broken_lines,
        rows=counts.rows,
        unknown_interactions=counts.unknown,
        resumed_from=before,
        seconds=seconds,
        users_per_second=(counts.users - before) / max(seconds, 1e-9),
        out=out,
        rejects=rejects if counts.rejected or counts.broken_lines else None,
    )
    logger.info(
        "%s: %s users = %s scored + %s rejected; %s rows in %.1f s, %s users/s",
        out,
        *(f"{n:,}" for n in (report.users, report.scored, report.rejected, report.rows)),
        report.seconds,
        f"{report.users_per_second:,.0f}",
    )
    return report
