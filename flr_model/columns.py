"""The one spelling of every column name, in the files flr reads (after mapping) and writes."""

from __future__ import annotations

USER = "user_id"
ITEM = "item_id"
TITLE = "title"
TIME = "timestamp"

HISTORY = "history"
HISTORY_TIMES = "history_timestamp"
TARGET = "target"

RANK = "rank"
SCORE = "score"
COUNTED = "counted"
BECAUSE_ITEM, BECAUSE_TITLE = "because_item_id", "because_title"
FACTOR = "factor_{}"

ALIASES: dict[str, tuple[str, ...]] = {
    USER: ("user_id", "user", "userid", "uid", "reviewerid", "customer_id", "user_id:token"),
    ITEM: (
        "item_id",
        "item",
        "itemid",
        "iid",
        "parent_asin",
        "asin",
        "product_id",
        "productid",
        "movie_id",
        "movieid",
        "item_id:token",
    ),
    TITLE: (
        "title",
        "item_title",
        "name",
        "item_name",
        "movie_title",
        "product_title",
        "movie_title:token_seq",
        "title:token_seq",
    ),
    TIME: ("timestamp", "time", "date", "datetime", "ts", "unixreviewtime", "created_at", "timestamp:float"),
    HISTORY: ("history_item_id", "history", "history_item_ids", "history_items", "item_id_list"),
    HISTORY_TIMES: ("history_timestamp", "history_timestamps", "history_time", "history_times", "timestamp_list"),
}
"""Header names accepted for each column when the user does not name it, compared as `normalized`, best first.

Amazon's 2023 reviews have both ``parent_asin`` and ``asin``; their metadata is keyed by the former.
"""


def normalized(name: str) -> str:
    """Return a header name as it is compared: lower case, words joined by underscores.

    >>> normalized(" User-ID")
    'user_id'
    """
    return "_".join(name.strip().lower().replace("-", " ").split())


def factor_columns(n_factors: int) -> list[str]:
    """Name the contribution columns of K factors, counted from 1."""
    return [FACTOR.format(k + 1) for k in range(n_factors)]
