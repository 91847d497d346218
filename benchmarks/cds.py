"""The CDs row of docs/results.md: the default recipe from the raw files, for several seeds.

Prints time and peak memory of every stage and the metrics of every seed on the test rows, which nothing was chosen on.

Another category in the same form works too: FOLDER has train.csv, valid.csv, test.csv, and items.csv or info.txt.

usage: cds.py --split FOLDER [--seeds 3] [--folder bench] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from rich.table import Table
from stages import Stage, console, flr

METRICS = ("HR@5", "NDCG@5", "HR@10", "NDCG@10")


def main() -> None:
    """Prepare once; train, align and evaluate per seed; export and score the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("bench"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    flr("fetch", "smollm2-135m", "--quiet")
    files = {name: str(arguments.split / f"{name}.csv") for name in ("train", "valid", "test", "items")}
    if not Path(files["items"]).exists():  # as the papers publish it
        files["items"] = str(arguments.split / "info.txt")
    data = str(folder / "data")
    stages = [flr("prepare", *[word for name, file in files.items() for word in (f"--{name}", file)], "--out", data)]
    results = {}
    for seed in range(arguments.seeds):
        run, aligned = (str(folder / f"{name}-{seed}") for name in ("run", "aligned"))
        ran = [flr("train", data, "--out", run, "--seed", str(seed), "--quiet")]
        ran.append(flr("align", run, "--out", aligned, "--seed", str(seed), "--quiet"))
        ran.append(flr("eval", aligned, "--json", "--quiet"))
        sft = flr("eval", run, "--json", "--quiet")
        results[seed] = {"aligned": json.loads(ran[-1].output), "sft": json.loads(sft.output)}
        if seed == 0:
            stages += ran
            bundle, recs = str(folder / "bundle"), str(folder / "recs.csv")
            stages.append(flr("export", aligned, "--onnx", "--out", bundle, "--quiet"))
            stages.append(flr("eval", bundle, "--json", "--quiet"))
            results["bundle"] = json.loads(stages[-1].output)
            stages.append(flr("score", bundle, files["test"], "--out", recs, "--quiet"))
    show_stages(stages)
    show_metrics(results, arguments.seeds)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


def show_stages(stages: list[Stage]) -> None:
    """Print seconds and memory of every stage."""
    table = Table(title="stages", title_justify="left")
    for column in ("command", "seconds", "peak MiB"):
        table.add_column(column, justify="left" if column == "command" else "right")
    for stage in stages:
        table.add_row(" ".join(stage.words[:2]), f"{stage.seconds:.0f}", f"{stage.peak_mb:.0f}")
    console.print(table)


def show_metrics(results: dict, seeds: int) -> None:  # type: ignore[type-arg]
    """Print the baselines, every seed before and after alignment, and the means."""
    table = Table(title="test rows, full ranking, match by id, ties against", title_justify="left")
    for column in ("", *METRICS):
        table.add_column(column, justify="right" if column else "left")

    def add(label: str, row: dict[str, float]) -> None:
        table.add_row(label, *(f"{row[name]:.4f}" for name in METRICS))

    for name, row in results[0]["aligned"]["baselines"].items():
        add(name, row)
    for stage in ("sft", "aligned"):
        rows = [results[seed][stage]["metrics"] for seed in range(seeds)]
        for seed, row in enumerate(rows):
            add(f"flr {stage}, seed {seed}", row)
        add(f"flr {stage}, mean", {name: float(np.mean([row[name] for row in rows])) for name in METRICS})
    add("bundle, seed 0", results["bundle"]["metrics"])
    console.print(table)


if __name__ == "__main__":
    main()
