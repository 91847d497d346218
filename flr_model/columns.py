"""The one spelling of every column name, in the files flr reads (after mapping) and writes."""

from __future__ import annotations

from collections.abc import Iterable

USER = "user_id"
ITEM = "item_id"
TITLE = "title"
TIME = "timestamp"
ITEM_TEXT = "item_text"

HISTORY = "history"
HISTORY_TIMES = "history_timestamp"
TARGET = "target"

RANK = "rank"
SCORE = "score"
COUNTED = "counted"
BECAUSE_ITEM, BECAUSE_TITLE = "because_item_id", "because_title"
SOURCE = "source"
FACTOR = "factor_{}"


def normalized(name: str) -> str:
    """Return a header name as it is compared: lower case, without spaces, hyphens and underscores.

    >>> normalized(" User-ID"), normalized("InvoiceDate") == normalized("invoice_date")
    ('userid', True)
    """
    return "".join(name.lower().replace("-", " ").replace("_", " ").replace("\ufeff", "").split())


def named(name: str, known: Iterable[str]) -> list[str]:
    """Return those of the known columns that a name means: the one spelled so, else all that compare as equal.

    >>> named("Brand", ["brand", "Brand"]), named("Brand", ["brand", "year"]), named("BRAND", ["brand", "Brand"])
    (['Brand'], ['brand'], ['brand', 'Brand'])
    """
    known = list(known)
    return [name] if name in known else [other for other in known if normalized(other) == normalized(name)]


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(normalized, text.split())))


ALIASES: dict[str, tuple[str, ...]] = {
    USER: _names(
        "user_id user uid reviewer_id user_id:token customer_id customer customer_no customer_number customer_nr "
        "cust_id client_id client client_no buyer_id buyer shopper_id consumer_id account_id member_id subscriber_id "
        "person_id visitor_id profile_id user_no user_number viewer_id reader_id listener_id session_id"
    ),
    ITEM: _names(
        "item_id item iid parent_asin asin product_id movie_id item_id:token sku product_sku article_id article "
        "article_no article_number article_nr product_no product_number product_code product stock_code item_no "
        "item_number item_code goods_id news_id book_id isbn isbn13 track_id song_id video_id show_id game_id app_id "
        "artist_id business_id recipe_id offer_id content_id variant_id listing_id ean gtin upc"
    ),
    TITLE: _names(
        "title item_title name item_name movie_title product_title movie_title:token_seq title:token_seq product_name "
        "prod_name article_name book_title track_name track_title song_title song_name video_title show_title headline "
        "item_description product_description description"
    ),
    TIME: _names(
        "timestamp time date datetime ts unix_review_time created_at timestamp:float ordered_at order_date order_time "
        "order_datetime order_timestamp purchased_at purchase_date purchase_time purchase_timestamp "
        "order_purchase_timestamp bought_at event_time event_date event_timestamp event_ts event_datetime t_dat "
        "invoice_date date_added added_at created created_on created_time creation_date transaction_date "
        "transaction_time sale_date sold_at rated_at rating_time rating_timestamp review_date reviewed_at viewed_at "
        "watched_at played_at listened_at clicked_at click_time visited_at visit_time interaction_time "
        "interaction_timestamp occurred_at unix_time unix_timestamp date_time"
    ),
    RANK: _names("rank position place rank_no recommendation_rank"),
    SCORE: _names("score prediction predicted_score relevance probability similarity"),
    HISTORY: _names("history_item_id history history_item_ids history_items item_id_list item_list"),
    HISTORY_TIMES: _names("history_timestamp history_timestamps history_time history_times timestamp_list"),
}
"""Header names accepted for each column when the user does not name it, as `normalized` writes them, best first.

Amazon's 2023 reviews have both ``parent_asin`` and ``asin``; their metadata is keyed by the former.
"""

LISTS = _names("items item_ids basket")
"""Names that a column of lists may have, and a column of counts as well: the content decides."""

KNOWN = frozenset(LISTS).union(*ALIASES.values())
"""Every name that flr knows."""


def factor_columns(n_factors: int) -> list[str]:
    """Name the contribution columns of K factors, counted from 1."""
    return [FACTOR.format(k + 1) for k in range(n_factors)]
