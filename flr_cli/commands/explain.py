"""`flr explain`: one user's facets and the reasons of the recommendations, from a bundle."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flr_cli import console
from flr_cli.options import JsonOpt, command, refuse
from flr_model.config import FilesConfig

if TYPE_CHECKING:
    from flr_model.explain.facets import Explanation

TOP_K = 10
SHOWN = 3
"""History items in a table; ``--json`` has all."""


@command(FilesConfig)
def explain(
    bundle: Annotated[Path, typer.Argument(help="Bundle made by `flr export --onnx`.")],
    user: Annotated[str, typer.Option(metavar="ID", help="The user to explain.")],
    histories: Annotated[Path, typer.Option(metavar="FILE", help="Histories, as `flr score` reads them.")],
    files: FilesConfig,
    item: Annotated[str | None, typer.Option(metavar="ID", help="Explain this item, recommended or not.")] = None,
    top_k: Annotated[
        int | None, typer.Option(metavar="INT", min=1, help=f"Recommendations to explain (default: {TOP_K}).")
    ] = None,
    form: Annotated[str, typer.Option(help="Of the histories: auto, long or wide.")] = "auto",
    json: JsonOpt = False,
) -> None:
    """Explain one user's recommendations: what each factor looks at, and what each item's probability is made of.

    The numbers are exact: an item's probability is that of `flr score`, and the factors' shares of it add up to one.
    """
    from flr_export.runtime import load_bundle
    from flr_export.scoring.user import read_user
    from flr_model.explain.facets import explain as explain_user

    if item is not None and top_k is not None:
        refuse(["top_k"], "with --item")
    recommender = load_bundle(bundle)
    row = read_user(recommender, histories, user, bundle=bundle, files=files, form=form)
    explanation = explain_user(recommender, row, top_k=top_k or TOP_K, item=item)
    console.emit_json(explanation) if json else _show(explanation)


def _show(explanation: Explanation) -> None:
    rows: list[tuple[object, ...]] = []
    for facet in explanation.facets:
        pairs = zip_longest(facet.looks_at[:SHOWN], facet.recommends)
        for line, (seen, new) in enumerate(pairs):
            head = ("", "", "") if line else (facet.factor, facet.name, facet.gate)
            looked = (seen.title, seen.share) if seen else ("", "")
            rows.append((*head, *looked, *((new.title, new.probability) if new else ("", ""))))
    title = f"User {explanation.user_id} (history items read: {explanation.history_items})"
    console.table(title, ("factor", "name", "gate", "looks at", "share", "recommends", "probability"), rows)
    if not explanation.reasons:
        console.line("The user has seen every item: nothing is left to recommend.")
        return
    factors = [f"factor {facet.factor}" for facet in explanation.facets]
    console.table(
        "Recommendations",
        ("rank", "item", "title", "probability", *factors, "counted"),
        [(r.rank or "-", r.item_id, r.title, r.probability, *r.shares, r.counted) for r in explanation.reasons],
    )
    behind: list[tuple[object, ...]] = []
    for reason in explanation.reasons:
        parts: list[tuple[object, ...]] = [(part.title, part.share) for part in reason.history[:SHOWN]]
        for place, part in enumerate(parts or [("none", "-")]):
            behind.append((reason.title if place == 0 else "", *part))
    console.table("Because of", ("title", "history item", "share"), behind)
    if explanation.reasons[0].rank is None:
        console.line(f"{explanation.reasons[0].title} is in the history: only `flr score --allow-seen` recommends it.")
