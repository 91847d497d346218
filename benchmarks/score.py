"""How fast a bundle scores, beside every bar that scoring has to pass; exits with 1 when one is missed.

The bundle and the run are those that `make bench` leaves behind. Histories are repeated under new user ids to make as
many users as a measurement needs. Everything runs on two cores, nothing else may.

usage: score.py --bundle bench/bundle --run bench/run-0 --histories TEST.CSV [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import baseline_generate
import large_catalogue
import numpy as np
import parity
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table
from stages import Stage, flr

from flr_export.building.parity import compare_rankings
from flr_export.bundle import Bundle
from flr_export.runtime import load_bundle
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows
from flr_model.ranking.lags import PaddedHistories

CORES = 2
LARGE_CATALOGUE = 1_000_000


class Bar(NamedTuple):
    """One line of the table: what was measured, what it has to reach, and whether it does (None: for information)."""

    what: str
    measured: str
    bar: str
    passed: bool | None


def main() -> None:
    """Measure, print, and exit with 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--histories", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="fewer users and items: a check of the script, no result")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bars = []
        for bar in measure(given.bundle, given.run, given.histories, Path(folder), quick=given.quick):
            print(bar.what, bar.measured, sep=": ", flush=True)
            bars.append(bar._replace(passed=None if bar.passed is None else bool(bar.passed)))  # numpy has its own
    table = Table(title=f"scoring on {CORES} cores", title_justify="left")
    for column in ("", "measured", "bar", ""):
        table.add_column(column)
    for bar in bars:
        table.add_row(bar.what, bar.measured, bar.bar, {True: "holds", False: "MISSED", None: ""}[bar.passed])
    Console(width=150).print(table)
    if given.json:
        given.json.write_text(json.dumps([bar._asdict() for bar in bars], indent=1))
    sys.exit(int(any(bar.passed is False for bar in bars)))


def measure(bundle: Path, run: Path, histories: Path, folder: Path, *, quick: bool) -> Iterator[Bar]:
    """Run all measurements; those of memory first, because a child's peak is at least what its parent has by then."""
    few, middle, many = (500, 2_000, 6_000) if quick else (10_000, 60_000, 1_000_000)
    files = {n: repeated(histories, folder / f"users-{n}.csv", n) for n in (few, middle, many)}
    yield first_row(bundle, files[middle], folder)
    speed = scored(bundle, files[middle], folder).report["users_per_second"]
    yield Bar(f"users/s, {middle:,} users", f"{speed:,.0f}", ">= 400", speed >= 400)
    yield from memory(scored(bundle, files[few], folder), scored(bundle, files[many], folder), few, many)
    yield from among_many_items(bundle, histories, folder, 20_000 if quick else LARGE_CATALOGUE)
    rows = Dataset.of(Bundle.open(bundle).manifest).rows("test")
    yield from int8_beside_fp32(bundle, rows)
    yield arithmetic(bundle, rows, speed)
    yield from eager(run, rows, speed, quick=quick)
    generated = baseline_generate.users_per_second(run, rows, n_users=1 if quick else 3)
    label = f"beside generate, {baseline_generate.BEAMS} beams ({generated:.2f} users/s)"
    times = speed / generated
    yield Bar(label, f"{times:,.0f} times", ">= 1,000", times >= 1000)


class Scored(NamedTuple):
    """A run of `flr score`: the command as it ran, and its report."""

    stage: Stage
    report: dict[str, Any]


def scored(bundle: Path, histories: Path, folder: Path, *more: str) -> Scored:
    """Score a file in a process of its own."""
    out = folder / "recs.csv"
    stage = flr("score", str(bundle), str(histories), "--out", str(out), "--overwrite", "--json", *more)
    return Scored(stage, json.loads(stage.output))


def repeated(histories: Path, out: Path, n_users: int) -> Path:
    """Write a wide file of ``n_users``: the histories over and over, each time under new ids."""
    with histories.open(newline="", encoding="utf-8") as file:
        rows = [(row["history_item_id"], row["history_timestamp"]) for row in csv.DictReader(file)]
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "history_item_id", "history_timestamp"])
        writer.writerows((f"user-{n}", *rows[n % len(rows)]) for n in range(n_users))
    return out


def int8_beside_fp32(bundle: Path, rows: HistoryRows) -> list[Bar]:
    """Compare the rankings of both graphs on the test rows, and their files."""
    if not (bundle / "reader.int8.onnx").exists():
        return [Bar("int8 beside fp32", "the gate refused int8: the bundle scores in fp32", "", None)]
    recommender = load_bundle(bundle)
    fp32, int8 = (parity.with_graph(recommender, bundle, name) for name in ("reader.onnx", "reader.int8.onnx"))
    found = compare_rankings(fp32, int8, rows)
    size = (bundle / "reader.int8.onnx").stat().st_size / (bundle / "reader.onnx").stat().st_size
    loss = found.ndcg_loss
    return [
        Bar(f"int8: loss of NDCG@10, {len(rows):,} test rows", f"{100 * loss:.2f} %", "<= 1 %", loss <= 0.01),
        Bar("int8: top-10 overlap", f"{100 * found.top10_overlap:.2f} %", ">= 95 %", found.top10_overlap >= 0.95),
        Bar("int8: size of the reader", f"{100 * size:.1f} % of fp32", "<= 30 %", size <= 0.3),
    ]


def first_row(bundle: Path, histories: Path, folder: Path) -> Bar:
    """Time from the start of the command until its part file holds a row."""
    out = folder / "first.csv"
    part = folder / ".first.csv.part"
    command = [sys.executable, "-m", "flr_cli", "score", str(bundle), str(histories), "--out", str(out), "--quiet"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not part.exists() or part.read_bytes()[:4096].count(b"\n") < 2:
        if process.poll() is not None:
            sys.exit("flr score ended before it wrote a row")
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    process.terminate()
    process.wait()
    return Bar("start to first row written", f"{seconds:.2f} s", "< 3 s", seconds < 3)


def memory(few: Scored, many: Scored, n_few: int, n_many: int) -> list[Bar]:
    """Compare the peaks of a small and a large file."""
    peaks = few.stage.peak_mb, many.stage.peak_mb
    text = f"{peaks[0]:,.0f} and {peaks[1]:,.0f} MiB"
    rate = many.report["users_per_second"]
    return [
        Bar(f"peak memory, {n_few:,} and {n_many:,} users", text, "within 5 %", peaks[1] <= 1.05 * peaks[0]),
        Bar("the larger of them", f"{max(peaks):,.0f} MiB", "< 1.5 GB", max(peaks) * 2**20 < 1.5e9),
        Bar(f"users/s, {n_many:,} users", f"{rate:,.0f} ({many.report['seconds']:,.0f} s)", "", None),
        Bar(
            f"users a second of both cores' time (what else runs does not count), {n_many:,} users",
            f"{CORES * many.report['users'] / many.stage.cpu_seconds:,.0f}",
            "",
            None,
        ),
    ]


def arithmetic(bundle: Path, rows: HistoryRows, users_per_second: float) -> Bar:
    """Compare the arithmetic that the users take with the int8 products that these cores can do."""
    recommender = load_bundle(bundle)
    lengths, counts = np.unique(np.clip(rows.lengths, 1, recommender.max_history), return_counts=True)
    per_user = np.average([operations(bundle, int(length)) for length in lengths], weights=counts)
    per_user += 2 * recommender.vectors.size * recommender.n_factors
    done, ceiling = per_user * users_per_second, int8_ceiling()
    share = done / ceiling
    text = f"{share:.2f} ({done / 1e9:,.0f} of {ceiling / 1e9:,.0f} GOP/s, {per_user / 1e6:.0f} MOP a user)"
    return Bar("arithmetic over the int8 ceiling", text, ">= 0.6", share >= 0.6)


def operations(bundle: Path, length: int) -> float:
    """Count the multiplications and additions of the matrix products for one user, from a profile's shapes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(tempfile.gettempdir()) / "flr-bench")
    session = onnxruntime.InferenceSession(str(Bundle.open(bundle).reader), options)
    width = Bundle.open(bundle).model.embedding_size
    feeds = {
        "item_vectors": np.ones((2, length, width), np.float32),
        "history_mask": np.ones((2, length), np.int64),
        "history_lag": np.zeros((2, length), np.int64),
    }
    session.run(None, {node.name: feeds[node.name] for node in session.get_inputs()})
    profile = Path(session.end_profiling())
    events = json.loads(profile.read_text())
    profile.unlink()
    total = 0.0
    for event in events:
        arguments = event.get("args", {})
        if event.get("name", "").endswith("_kernel_time") and "MatMul" in arguments.get("op_name", ""):
            left, output = (next(iter(arguments[key][0].values())) for key in ("input_type_shape", "output_type_shape"))
            total += 2.0 * np.prod(output) * left[-1]
    return total / 2


def int8_ceiling() -> float:
    """Return the operations per second of ONNX Runtime's best int8 product on these cores."""
    import onnxruntime

    best = 0.0
    for rows, inner, columns in ((4096, 2048, 2048), (2048, 576, 1536), (4096, 1024, 1024)):
        weight = numpy_helper.from_array(np.ones((inner, columns), np.int8), "w")
        infos = [
            helper.make_tensor_value_info("x", TensorProto.UINT8, [rows, inner]),
            helper.make_tensor_value_info("y", TensorProto.INT32, [rows, columns]),
        ]
        graph = helper.make_graph(
            [helper.make_node("MatMulInteger", ["x", "w"], ["y"])], "g", infos[:1], infos[1:], [weight]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = CORES
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        feeds = {"x": np.ones((rows, inner), np.uint8)}
        for _ in range(8):
            began = time.perf_counter()
            session.run(None, feeds)
            best = max(best, 2.0 * rows * inner * columns / (time.perf_counter() - began))
    return best


def eager(run: Path, rows: HistoryRows, users_per_second: float, *, quick: bool) -> list[Bar]:
    """Rank the same histories with the run itself, torch eager in fp32, 256 users at once."""
    import torch

    from flr_model.nn.run import load_run

    torch.set_num_threads(CORES)
    recommender = load_run(run).recommender()
    sample = rows.select(slice(0, 512 if quick else 4096))
    parts = [sample.select(slice(start, start + 256)) for start in range(0, len(sample), 256)]
    titles = recommender.catalog.titles.tolist()

    def padded(part: HistoryRows) -> Any:
        histories = PaddedHistories.of(part, recommender.max_history, recommender.evidence.lag_bounds)
        return recommender.reader.read(histories, recommender.vectors, titles)

    rates = []
    for read in (padded, recommender.states):
        read(parts[0])
        began = time.perf_counter()
        for part in parts:
            read(part)
        rates.append(len(sample) / (time.perf_counter() - began))
    times = [users_per_second / rate for rate in rates]
    return [
        Bar(f"beside torch eager fp32 ({rates[0]:,.0f} users/s)", f"{times[0]:.1f} times", ">= 6", times[0] >= 6),
        Bar(f"the same, cut to each batch's longest ({rates[1]:,.0f} users/s)", f"{times[1]:.1f} times", "", None),
    ]


def among_many_items(bundle: Path, histories: Path, folder: Path, n_items: int) -> list[Bar]:
    """Score some users among a million items, exactly and with the approximate index."""
    large = large_catalogue.with_items(bundle, folder / "large", n_items)
    users = repeated(histories, folder / "large.csv", 512)
    exact = scored(large, users, folder)
    best = large_catalogue.top_items(folder / "recs.csv")
    near = None if importlib.util.find_spec("faiss") is None else scored(large, users, folder, "--index", "ann")
    found = large_catalogue.top_items(folder / "recs.csv")
    checked = large_catalogue.brute_force(large, users, list(best)[:16], threads=CORES)
    same = np.mean([a == b for user in checked for a, b in zip(checked[user], best[user], strict=True)])
    mapped = (large / "item_vectors.npy").stat().st_size / 2**20
    bars = [
        Bar(
            f"{n_items:,} items, exact (a mapped file of {mapped:,.0f} MiB in its memory)",
            f"{exact.report['users_per_second']:,.0f} users/s, {exact.stage.peak_mb:,.0f} MiB, "
            f"{100 * same:.1f} % of places as brute force",
            f"< {mapped + 1500:,.0f} MiB, > 99 %",
            bool(same > 0.99) and exact.stage.peak_mb < mapped + 1500,  # nearly equal scores may change places
        )
    ]
    if near is None:
        return [*bars, Bar("approximate index", 'not installed: pip install "flr[ann]"', "", None)]
    recall = np.mean([len(set(best[user]) & set(found[user])) / len(best[user]) for user in best])
    text = f"recall@10 {recall:.4f}, {near.report['seconds']:,.0f} s with building, {near.stage.peak_mb:,.0f} MiB"
    return [*bars, Bar(f"{n_items:,} items, approximate index", text, "", None)]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(CORES))
    main()
