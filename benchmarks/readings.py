"""How fast titles are read, and what bf16 and a prompt that is read once change in readings and item vectors.

Reads a catalogue as training does, with an empty cache; then an evenly spaced part of it in fp32, each title with its
whole prompt. Both are whitened by what was fitted to the catalogue.

usage: readings.py DATASET [--item-readers backbone,minilm] [--titles 500]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from stages import console
from torch.nn import functional as F

from flr_model.arrays import Floats
from flr_model.config import ModelConfig
from flr_model.data.dataset import Dataset
from flr_model.nn.item_encoder import ItemEncoder
from flr_model.nn.item_readers import TOKENS_PER_BATCH, ItemReader
from flr_model.nn.run import build_item_encoder
from flr_model.training.readings import reading_dtype


def main() -> None:
    """Read both ways, and print titles a second and cosines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--item-readers", default="backbone,minilm")
    parser.add_argument("--titles", type=int, default=500)
    arguments = parser.parse_args()
    titles = Dataset.open(arguments.dataset).catalog.texts.tolist()
    sample = np.unique(np.linspace(0, len(titles) - 1, arguments.titles).astype(np.int64))
    encoder = build_item_encoder(ModelConfig(item_readers=arguments.item_readers)).requires_grad_(False).eval()
    dtype = reading_dtype("auto", torch.device("cpu"))
    ours, fast = zip(*(timed(read_as_training, reader, titles, dtype) for reader in encoder.readers), strict=True)
    chosen = [titles[i] for i in sample]
    whole, slow = zip(*(timed(read_plainly, reader, chosen) for reader in encoder.readers), strict=True)
    encoder.fit(ours)
    show(encoder, [states[sample] for states in ours], whole, (fast, slow), dtype)


def timed(read: object, reader: ItemReader, titles: list[str], *more: object) -> tuple[Floats, float]:
    """Return readings (n, R, w), and titles a second."""
    began = time.perf_counter()
    states = read(reader, titles, *more)  # type: ignore[operator]
    return states, len(titles) / (time.perf_counter() - began)


def read_as_training(reader: ItemReader, titles: list[str], dtype: torch.dtype) -> Floats:
    """Read as `flr train` does, without a cache."""
    states = np.zeros((len(titles), len(reader.parts), reader.width), np.float32)
    reader.read_titles(titles, dtype=dtype, keep=states.__setitem__)
    return states


@torch.no_grad()
def read_plainly(reader: ItemReader, titles: list[str]) -> Floats:
    """Read in fp32, every title with all of its prompt."""
    states = np.zeros((len(titles), len(reader.parts), reader.width), np.float32)
    for which, input_ids, mask in reader.tokenizer.batches(titles, TOKENS_PER_BATCH):
        states[which] = reader(torch.from_numpy(input_ids), torch.from_numpy(mask)).numpy()
    return states


def show(
    encoder: ItemEncoder,
    ours: list[Floats],
    whole: tuple[Floats, ...],
    speed: tuple[tuple[float, ...], tuple[float, ...]],
    dtype: torch.dtype,
) -> None:
    """Print a line for each reader, and one for the item vectors."""
    name = str(dtype).removeprefix("torch.")
    table = Table(title=f"{len(ours[0])} titles, {torch.get_num_threads()} thread(s)", title_justify="left")
    for column in ("", f"titles/s, {name}", "titles/s, whole prompt, float32", "mean cosine", "smallest"):
        table.add_column(column, justify="right" if column else "left")
    one, other = ([torch.from_numpy(states) for states in both] for both in (ours, whole))
    for reader, a, b, fast, slow in zip(encoder.readers, one, other, *speed, strict=True):
        cosines = F.cosine_similarity(a, b, dim=-1)
        for number in range(cosines.shape[1]):
            figures = (f"{cosines[:, number].mean():.5f}", f"{cosines[:, number].min():.5f}")
            table.add_row(f"{reader.name}, reading {number + 1}", f"{fast:.0f}", f"{slow:.0f}", *figures)
    cosines = F.cosine_similarity(encoder.whiten(one), encoder.whiten(other), dim=-1)
    table.add_row("item vectors", "", "", f"{cosines.mean():.5f}", f"{cosines.min():.5f}")
    console.print(table)


if __name__ == "__main__":
    main()
