"""The first tables of docs/results.md: the default recipe from the raw files, for several seeds.

Prints time and peak memory of every stage, and the metrics of every seed on the test rows, which nothing was chosen on,
beside flr's own baselines and what others published. Other libraries' methods: `baselines.py FOLDER/data`.

DATA is cds, beauty or retail; SOURCE is its folder. Another category in the form of cds works too: a folder with
train.csv, valid.csv, test.csv, and items.csv or info.txt.

usage: accuracy.py DATA SOURCE [--seeds 3] [--folder bench] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from stages import Stage, console, flr

METRICS = ("HR@5", "NDCG@5", "HR@10", "NDCG@10")

Row = dict[str, float]

PUBLISHED: dict[str, dict[str, tuple[float, ...]]] = {
    "beauty": {
        "TIGER, paper": (0.0454, 0.0321, 0.0648, 0.0384),
        "TIGER, rerun": (0.0465, 0.0297, 0.0721, 0.0378),
        "SASRec, rerun": (0.0469, 0.0305, 0.0688, 0.0375),
        "HSTU, rerun": (0.0486, 0.0340, 0.0708, 0.0412),
        "LC-Rec, rerun": (0.0525, 0.0352, 0.0791, 0.0438),
    },
    "cds": {
        "Qwen2.5-1.5B, SFT on 49,251 rows": (np.nan, np.nan, 0.0905, 0.0673),
        "the same after GRPO (LatentR3)": (np.nan, np.nan, 0.0934, 0.0704),
        "popularity-grouped GRPO": (np.nan, np.nan, 0.1012, 0.0762),
    },
}
"""What papers report on the same test rows, in the order of `METRICS`; "rerun" by github.com/phonism/genrec."""


def main() -> None:
    """Prepare once; train and evaluate per seed; export and score the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("cds", "beauty", "retail"))
    parser.add_argument("source", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("bench"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for asset in ("smollm2-135m", "minilm"):
        flr("fetch", asset, "--quiet")
    data = str(folder / "data")
    stages = [flr("prepare", *prepare_words(arguments.data, arguments.source), "--out", data)]
    results: dict[str, Any] = {}
    for seed in range(arguments.seeds):
        run = str(folder / f"run-{seed}")
        ran = [flr("train", data, "--out", run, "--seed", str(seed), "--quiet"), flr("eval", run, "--json", "--quiet")]
        results[str(seed)] = json.loads(ran[-1].output)
        if seed == 0:
            stages += ran
            bundle = str(folder / "bundle")
            stages.append(flr("export", run, "--onnx", "--out", bundle, "--quiet"))
            stages.append(flr("eval", bundle, "--json", "--quiet"))
            results["bundle"] = json.loads(stages[-1].output)
    show_stages(stages)
    show_metrics(results, arguments.seeds, PUBLISHED.get(arguments.data, {}))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


def prepare_words(data: str, source: Path) -> list[str]:
    """Return the options of `flr prepare` that follow a data set's protocol."""
    if data == "cds":
        files = {name: source / f"{name}.csv" for name in ("train", "valid", "test", "items")}
        if not files["items"].exists():  # as the papers publish it
            files["items"] = source / "info.txt"
    else:
        files = {name: source / f"{name}.csv" for name in ("interactions", "items")}
    words = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    return words + {"cds": [], "beauty": ["--split", "leave-one-out"], "retail": ["--k-core", "5"]}[data]


def show_stages(stages: list[Stage]) -> None:
    """Print seconds and memory of every stage."""
    table = Table(title="stages", title_justify="left")
    for column in ("command", "seconds", "peak MiB"):
        table.add_column(column, justify="left" if column == "command" else "right")
    for stage in stages:
        table.add_row(" ".join(stage.words[:2]), f"{stage.seconds:.0f}", f"{stage.peak_mb:.0f}")
    console.print(table)


def show_metrics(results: dict[str, Any], seeds: int, published: dict[str, tuple[float, ...]]) -> None:
    """Print what was published, the baselines, every seed, their mean and the bundle of the first."""
    table = Table(title="test rows, full ranking, match by id, ties against", title_justify="left")
    for column in ("", *METRICS):
        table.add_column(column, justify="right" if column else "left")

    def add(label: str, row: Row) -> None:
        table.add_row(label, *("" if np.isnan(row[name]) else f"{row[name]:.4f}" for name in METRICS))

    for label, figures in published.items():
        add(f"{label} (published)", dict(zip(METRICS, figures, strict=True)))
    for name, row in results["0"]["baselines"].items():
        add(name, row)
    rows = [results[str(seed)]["metrics"] for seed in range(seeds)]
    for seed, row in enumerate(rows):
        add(f"flr, seed {seed}", row)
    add("flr, mean", {name: float(np.mean([row[name] for row in rows])) for name in METRICS})
    add("bundle, seed 0", results["bundle"]["metrics"])
    console.print(table)


if __name__ == "__main__":
    main()
