"""A bundle or a run, opened: recommendations for lists and frames, as `flr score` would write them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flr.frames import as_frame
from flr_export.scoring.chunks import Chunk, Scoring, why_rejected
from flr_export.scoring.inputs import Entry, HistoryFile, wide_entry
from flr_export.scoring.rules import listed
from flr_export.scoring.score import means
from flr_export.scoring.sinks import result_columns, result_table
from flr_model import columns
from flr_model.artifacts import Manifest, open_folder
from flr_model.config import FilesConfig, ScoreConfig
from flr_model.data.histories import PAD, HistoryRows
from flr_model.errors import ConfigError, DataError, needs_extra
from flr_model.files.cells import CellError, as_id
from flr_model.files.frames import FrameTable
from flr_model.files.lists import ListReader
from flr_model.files.reading import Reading
from flr_model.files.rows import Row
from flr_model.files.times import AmbiguousTimesError, TimeRule
from flr_model.ranking.recommender import Ranking
from flr_model.ranking.recommender import Recommender as Engine

if TYPE_CHECKING:
    import pandas as pd

    from flr_model.arrays import Bools
    from flr_model.explain.facets import Explanation

logger = logging.getLogger(__name__)

History = Sequence[Any]
"""Item ids of one user, oldest first: a list, an array or a series."""

Unknown = Literal["error", "drop"]
Fallback = Literal["none", "popular"]


def open_recommender(folder: Path, manifest: Manifest, *, guidance: float | None = None, threads: int = 0) -> Engine:
    """Open a bundle or a run for ranking.

    Args:
        folder: of it.
        manifest: of the folder.
        guidance: weight of the factors in the search for titles; None takes the folder's.
        threads: of one call of a bundle's network; 0 takes all cores.
    """
    if manifest.kind == "bundle":
        from flr_export.runtime import load_bundle

        return load_bundle(folder, guidance=guidance, threads=threads)
    with needs_extra("train"):
        from flr_model.nn.run import load_recommender
    return load_recommender(folder, guidance=guidance)


@dataclass(frozen=True)
class Recommender:
    """Recommends items of a bundle or a run; safe to use from several threads.

    Args:
        engine: the recommender behind it, whose ``catalog`` has the items.
        memory: what the folder remembers of the files that it was made from, by their role.
    """

    engine: Engine
    memory: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Recommender:
        """Open a folder (see `flr.load`)."""
        manifest = open_folder(folder, "bundle", "run")
        # One thread for each call: a history is too little work for several.
        return cls(open_recommender(folder, manifest, threads=1), manifest.content.get("reading", {}))

    def items(self) -> pd.DataFrame:
        """Return the items that are known, a row each: ``item_id``, ``title``."""
        import pandas as pd

        catalog = self.engine.catalog
        return pd.DataFrame({columns.ITEM: catalog.item_ids, columns.TITLE: catalog.titles})

    def with_items(self, titles: Mapping[Any, str]) -> Recommender:
        """Return a recommender that also knows new items, which count in histories and are recommended.

        Args:
            titles: title of each new item by its id. Items that are known keep their titles.

        Raises:
            DataError: if an id or a title is empty.
        """
        wanted = {_id(item): str(title).strip() for item, title in titles.items()}
        if empty := [item for item, title in wanted.items() if not item or not title]:
            raise DataError(f"new items without id or title: {', '.join(map(repr, empty[:3]))}")
        known = self.engine.catalog.positions(list(wanted)) != PAD
        new = [item for item, old in zip(wanted, known.tolist(), strict=True) if not old]
        return replace(self, engine=self.engine.with_items(new, [wanted[item] for item in new]))

    def recommend(
        self,
        histories: History | pd.DataFrame,
        k: int = 10,
        *,
        times: Sequence[Any] | None = None,
        because: bool = False,
        allow_seen: bool = False,
        only: Sequence[Any] | None = None,
        exclude: Sequence[Any] | None = None,
        unknown: Unknown = "error",
        fallback: Fallback = "none",
        files: FilesConfig | None = None,
    ) -> pd.DataFrame:
        """Recommend items: for one history, or for every user of a frame.

        Args:
            histories: item ids of one user, oldest first; or a frame with a row per interaction (user, item, time), or
                a row per user with a list of items, whose columns are found as those of files are.
            k: items per user.
            times: of the items of one history, as dates, texts or numbers; recent ones weigh more.
            because: add each factor's share, the counted share, and the history item behind a recommendation.
            allow_seen: keep seen items among the recommendations.
            only: recommend no other items than these.
            exclude: never recommend these.
            unknown: what is done with items of histories that are not known: "error" refuses them; "drop" leaves them
                out, which a warning counts.
            fallback: for users without a known item: "popular" gives the items bought most and adds the column
                ``source``; "none" leaves such users out, and refuses such a history.
            files: names of the frame's columns, where they do not tell.

        Returns:
            The columns of ``flr score``, a user's best item first; without ``user_id`` for one history. Rows and users
            of a frame that cannot be used are left out, with a warning.

        Raises:
            DataError: if a history cannot be used, or none of ``only`` or ``exclude`` is known.
            ArtifactError, ConfigError: if the folder does not say what was bought most; if an argument cannot be.
        """
        if unknown not in ("error", "drop"):
            raise ConfigError(f"unknown is {unknown!r}, not 'error' or 'drop'")
        frame = hasattr(histories, "columns")
        if frame and times is not None:
            raise ConfigError("times are for one history; those of a frame are a column of it")
        work = self._scoring(ScoreConfig(top_k=k, allow_seen=allow_seen, fallback=fallback), only, exclude)
        if frame:
            ranked = work.ranked(self._entries(histories, files))
        else:
            ranked = iter([work.rank_all([_entry(histories, times)])])
        return self._frame(work, ranked, unknown, users=frame, because=because)

    def explain(
        self, history: History, k: int = 10, *, times: Sequence[Any] | None = None, item: Any = None
    ) -> Explanation:
        """Explain the recommendations for one history, as `flr explain` does.

        Args:
            history: item ids, oldest first.
            k: recommendations to explain.
            times: of the items.
            item: id of the one item to explain instead.

        Raises:
            DataError: if the history or the item cannot be used.
            ConfigError: if the recommender writes titles: no factor of it ranks alone.
        """
        from flr_model.explain.facets import explain

        rows = self._rows(_entry(history, times))
        return explain(self.engine, rows, top_k=k, item=None if item is None else _id(item))

    def _scoring(self, config: ScoreConfig, only: Sequence[Any] | None, exclude: Sequence[Any] | None) -> Scoring:
        workers, limit = means(config)
        return Scoring(self.engine, config, None, self._offered(only, exclude), workers=workers, limit=limit)

    def _rows(self, entry: Entry) -> HistoryRows:
        (chunk,) = Scoring(self.engine, ScoreConfig()).chunks(iter([entry]))
        self._check(chunk, dict(chunk.reasons), "error", frame=False)
        return chunk.rows

    def _entries(self, frame: Any, files: FilesConfig | None) -> Iterator[Entry]:
        reading = Reading.of(files or FilesConfig(), "histories", self.memory.get("interactions"))
        return HistoryFile.of(FrameTable(frame), reading).entries()

    def _offered(self, only: Sequence[Any] | None, exclude: Sequence[Any] | None) -> Bools | None:
        if only is None and not len(() if exclude is None else exclude):
            return None
        catalog, hint = self.engine.catalog, "give ids of items(), or add new items with with_items"
        offered = None if only is None else listed([_id(item) for item in only], catalog, "only", hint)
        if exclude is not None and len(exclude):
            kept = ~listed([_id(item) for item in exclude], catalog, "exclude", hint)
            offered = kept if offered is None else offered & kept
        if offered is not None and not offered.any():
            raise DataError("exclude leaves nothing that could be recommended", hint="check only and exclude")
        return offered

    def _frame(
        self,
        work: Scoring,
        ranked: Iterator[tuple[Chunk, Ranking | None]],
        unknown: Unknown,
        *,
        users: bool,
        because: bool,
    ) -> pd.DataFrame:
        """Gather ranked chunks, and warn of what is left out."""
        parts, n_factors, left_out, dropped, popular = [], 0, list[str](), list[str](), list[str]()
        for chunk, ranking in ranked:
            reasons = why_rejected(chunk, ranking)
            self._check(chunk, reasons, unknown, frame=users)
            dropped += chunk.unknown
            left_out += _told(chunk, reasons)
            popular += _told(chunk, chunk.popular)
            if ranking is not None:
                sources = chunk.sources if work.popular else None
                parts.append(result_table(self.engine.catalog, chunk.users, ranking, sources))
                n_factors = ranking.shares.shape[2]
        if dropped:
            samples = ", ".join(list(dict.fromkeys(dropped))[:3])
            logger.warning("%d interactions are with unknown items, for instance %s", len(dropped), samples)
        if left_out:
            logger.warning("%d left out, for instance %s", len(left_out), "; ".join(left_out[:3]))
        if popular and users:
            logger.info("the most popular items for %d users, for instance %s", len(popular), "; ".join(popular[:3]))
        header = result_columns(n_factors or self.engine.n_factors, source=work.popular is not None)
        return as_frame(header, parts, users=users, because=because)

    def _check(self, chunk: Chunk, reasons: Mapping[int, str], unknown: Unknown, *, frame: bool) -> None:
        """Refuse unknown items unless they are to be dropped, and a single history that is of no use."""
        if chunk.unknown and unknown == "error":
            items = list(dict.fromkeys(chunk.unknown))
            raise DataError(
                f"unknown items: {', '.join(map(repr, items[:3]))}{', ...' if len(items) > 3 else ''} "
                f"({len(items):,} of them; {len(self.engine.catalog):,} items are known)",
                hint="give their titles with `with_items({id: title})`, or leave them out with unknown='drop'",
            )
        if reasons and not frame:
            raise DataError(f"the history cannot be used: {next(iter(reasons.values()))}")


def _entry(history: Any, times: Sequence[Any] | None) -> Entry:
    """Read one history as a row with a list is read."""
    if isinstance(history, (str, bytes)):
        raise ConfigError(f"a history is a list of item ids, not the text {history!r}")
    items = _plain(history)
    if times is None:
        entry = wide_entry(Row(1, ["-", items]), ListReader())
    else:
        try:
            reader = ListReader(rule=TimeRule.find(_plain(times)))
        except AmbiguousTimesError as error:
            raise DataError(f"times: {error}", hint="give dates of the module datetime, or seconds") from None
        entry = wide_entry(Row(1, ["-", items, _plain(times)]), reader)
    return entry


def _told(chunk: Chunk, reasons: Mapping[int, str]) -> list[str]:
    """Name users with the reasons for what becomes of them."""
    return [f"{chunk.entries[number].user}: {reason}" for number, reason in reasons.items()]


def _plain(values: Any) -> list[Any]:
    """Return plain Python values of a list, an array or a series."""
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _id(item: Any) -> str:
    try:
        return as_id(item)
    except CellError as error:
        raise DataError(str(error)) from None
