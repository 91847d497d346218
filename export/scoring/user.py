"""One user of a file of histories, read as `flr score` reads it."""

from __future__ import annotations

import logging
from pathlib import Path

from flr_export.scoring.chunks import Scoring
from flr_export.scoring.inputs import Entry, HistoryFile, Shard
from flr_export.scoring.rules import ItemRules
from flr_export.scoring.score import Job
from flr_model.config import FilesConfig, ScoreConfig
from flr_model.data.histories import HistoryRows
from flr_model.errors import DataError
from flr_model.ranking.recommender import Recommender

logger = logging.getLogger(__name__)


def read_user(
    recommender: Recommender,
    histories: Path,
    user: str,
    *,
    bundle: Path | None = None,
    files: FilesConfig | None = None,
    form: str = "auto",
) -> HistoryRows:
    """Read the history of one user; unknown items are left out, with a warning.

    Args:
        recommender: whose items are known.
        histories: CSV or Parquet, long or wide form. Of several rows of the user in wide form the last one is taken.
        user: the id.
        bundle: the bundle's folder, which remembers how its files are read.
        files: how the file is read, beyond that.
        form: auto, long or wide.

    Returns:
        One row.

    Raises:
        DataError: if the file cannot be read, has no such user, or nothing usable of it.
    """
    job = Job(
        recommender, histories, ScoreConfig(), files or FilesConfig(), form, None, None, ItemRules(), Shard(), bundle
    )
    entry = find_user(job.source(), user)
    (chunk,) = Scoring(recommender, job.config).chunks(iter([entry]))
    if chunk.reasons:
        raise DataError(
            f"{histories} line {entry.line} (user {user}): {chunk.reasons[0]}",
            hint="check that the item ids are those of the bundle, and name the column with --item-col",
        )
    if chunk.unknown:
        logger.warning(
            "%d of the %d history items of user %s are unknown and left out, for instance %s",
            len(chunk.unknown),
            len(entry.items),
            user,
            ", ".join(list(dict.fromkeys(chunk.unknown))[:3]),
        )
    return chunk.rows


def find_user(source: HistoryFile, user: str) -> Entry:
    """Return a user's entry, the last of several, and warn of the rows that do not count.

    Raises:
        DataError: if the file has no such user, or cannot be read.
    """
    path = source.table.path
    own: list[Entry] = []
    broken: list[Entry] = []
    others: dict[str, None] = {}
    for entry in source.entries():
        if entry.user == user and user:
            (own if entry.is_user else broken).append(entry)
        elif entry.user and len(others) < 3:
            others[entry.user] = None
    if broken:
        logger.warning(
            "%s: %d rows of user %s are left out, for instance line %d: %s",
            *(path, len(broken), user, broken[0].line, broken[0].problem),
        )
    if not own:
        raise DataError(
            f"{path} has no user {user!r}; it has for instance {', '.join(others) or 'none at all'}",
            hint="name one of its users with --user, or the column of the users with --user-col",
        )
    if len(own) > 1:
        logger.warning(
            "%s: user %s has %d rows; the last one, line %d, is explained", path, user, len(own), own[-1].line
        )
    return own[-1]
