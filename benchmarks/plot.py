"""The plot of the README: NDCG@10 on the Amazon CDs test rows, ours and published.

usage: plot.py CDS_JSON [--out docs/cds.svg]     CDS_JSON is what `cds.py --json` writes; needs the extra `bench`
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

PUBLISHED = {
    "LatentR3 after SFT, 1.5B, 49,251 rows": 0.0673,
    "LatentR3 after GRPO": 0.0704,
    "LatentR3, popularity-grouped GRPO": 0.0762,
}
"""On the same test rows, by LatentR3's repository."""


def main() -> None:
    """Read the metrics and draw the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/cds.svg"))
    arguments = parser.parse_args()
    results = json.loads(arguments.metrics.read_text())
    seeds = [run for seed, run in results.items() if seed.isdigit()]
    baselines = seeds[0]["aligned"]["baselines"]
    own = [run["aligned"]["metrics"]["NDCG@10"] for run in seeds]
    bars = {
        "most popular": baselines["pop"]["NDCG@10"],
        "co-occurrence": baselines["cooc"]["NDCG@10"],
        "flr, 135M, 10,484 rows, defaults": float(np.mean(own)),
        **PUBLISHED,
    }
    names, values = list(bars), list(bars.values())
    colours = ["#2b6cb0" if name.startswith("flr") else "#d0d7de" if name in PUBLISHED else "#8b949e" for name in names]
    plt.rcParams["svg.fonttype"] = "none"
    figure, axes = plt.subplots(figsize=(7.5, 2.6))
    spread = [np.ptp(own) / 2 if name.startswith("flr") else 0.0 for name in names]
    drawn = axes.barh(names, values, xerr=spread, color=colours, error_kw={"linewidth": 1})
    axes.bar_label(drawn, labels=[f"{value:.4f}" for value in values], padding=4, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, max(values) * 1.15)
    axes.set_xlabel("NDCG@10, full ranking of 5,841 items (light grey: published)", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(arguments.out, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
