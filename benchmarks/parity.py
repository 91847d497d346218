"""How close the exported graphs come to torch on the test rows: scores and top-10 lists.

usage: parity.py RUN BUNDLE [--rows N]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.table import Table
from stages import console

from flr_export.building.parity import RankingParity, compare_rankings
from flr_export.bundle import Bundle
from flr_export.runtime import OnnxReader, load_bundle
from flr_model.data.dataset import Dataset
from flr_model.nn.run import load_run
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.titles.recommender import TitleRecommender


def main() -> None:
    """Compare fp32 with torch and int8 with fp32."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rows", type=int, default=0, help="test rows, evenly spaced; 0: all")
    arguments = parser.parse_args()
    run, bundle = load_run(arguments.run), load_bundle(arguments.bundle)
    rows = Dataset.of(run.manifest).rows("test").subsample(arguments.rows)

    table = Table(title=f"{len(rows):,} test rows", title_justify="left")
    for column in ("", "largest score difference", "identical top 10", "overlap", "NDCG@10", "beside"):
        table.add_column(column, justify="right" if column else "left")
    if isinstance(bundle, TitleRecommender):
        run.config = bundle.model
        add(table, "fp32 beside torch", compare_rankings(run.recommender(), bundle, rows))
        console.print(table)
        return
    fp32 = with_graph(bundle, arguments.bundle, "reader.onnx")
    add(table, "fp32 beside torch", compare_rankings(bundle.with_reader(run.recommender().reader), fp32, rows))
    if (arguments.bundle / "reader.int8.onnx").exists():
        int8 = with_graph(bundle, arguments.bundle, "reader.int8.onnx")
        add(table, "int8 beside fp32", compare_rankings(fp32, int8, rows))
    console.print(table)


def with_graph(recommender: CatalogRecommender, bundle: Path, name: str) -> CatalogRecommender:
    """Put one of a bundle's graphs behind its recommender."""
    return recommender.with_reader(OnnxReader(bundle / name, Bundle.open(bundle).model))


def add(table: Table, label: str, parity: RankingParity) -> None:
    """Add a comparison to the table."""
    figures = (parity.identical_top10, parity.top10_overlap)
    metrics = (parity.candidate["NDCG@10"], parity.reference["NDCG@10"])
    table.add_row(
        label,
        f"{parity.max_score_difference:.1e}",
        *(f"{100 * value:.2f} %" for value in figures),
        *(f"{value:.4f}" for value in metrics),
    )


if __name__ == "__main__":
    main()
