"""Users per second of the `title` decoder beside transformers' constrained `generate`: same weights, same lists.

Both write the best titles with as many beams as the run says, over the same validation rows, without guidance, seen
items and items of the same title, of which a prefix function knows nothing. Prints the share of equal lists and the
invalid titles too; and what a thought costs: the factors and the latent token beside a written chain of thought, as
long as is asked for, that the backbone would write token by token.

usage: title.py RUN BUNDLE [--rows 64] [--batch 32] [--written 100] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from stages import console
from transformers import AutoModelForCausalLM

from flr_export.runtime import load_bundle
from flr_model.arrays import Floats
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows
from flr_model.nn.run import load_run
from flr_model.nn.title_head import WRITER
from flr_model.nn.title_reader import TorchWriter
from flr_model.ranking.candidates import EVERYTHING
from flr_model.ranking.lags import PaddedHistories
from flr_model.ranking.recommender import columns_for
from flr_model.titles.latent import expected_vectors
from flr_model.titles.recommender import TitleRecommender
from flr_model.titles.search import Prompted, TitleSearch
from flr_model.titles.tree import TitleTree

Lists = list[list[tuple[int, ...]]]


class Reference:
    """transformers' beam search over the embeddings of the same prompt.

    Args:
        recommender: with torch behind it.
        folder: of the run.
    """

    def __init__(self, recommender: TitleRecommender, folder: Path) -> None:
        self.recommender = recommender
        self.lm = AutoModelForCausalLM.from_pretrained(folder / WRITER, dtype=torch.float32).eval()
        self.lm.lm_head.weight = torch.nn.Parameter(torch.from_numpy(recommender.reader.head))
        self.end = recommender.tree.end
        self.allowed: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for title in tokenized(recommender.tree):
            for place, token in enumerate((*title, self.end)):
                self.allowed[title[:place]].add(token)
        self.allowed = {beginning: sorted(tokens) for beginning, tokens in self.allowed.items()}

    @torch.no_grad()
    def lists(self, rows: HistoryRows) -> Lists:
        """Return each user's best titles as tokens."""
        embeddings, mask = self.prompts(rows)
        beams = self.recommender.model.title.beams
        out = self.lm.generate(
            inputs_embeds=embeddings,
            attention_mask=mask,
            num_beams=beams,
            num_return_sequences=beams,
            do_sample=False,
            max_new_tokens=self.recommender.model.title_tokens + 1,
            prefix_allowed_tokens_fn=self.allow,
            renormalize_logits=True,
            length_penalty=0.0,
            eos_token_id=self.end,
            pad_token_id=self.end,
        )
        titles = [tuple(row[: row.index(self.end)] if self.end in row else row) for row in out.tolist()]
        return [titles[start : start + beams] for start in range(0, len(titles), beams)]

    def allow(self, _: int, beginning: torch.Tensor) -> list[int]:
        """Return the tokens that may follow; beams without a valid beginning, which transformers adds, end."""
        return self.allowed.get(tuple(beginning.tolist()), [self.end])

    def prompts(self, rows: HistoryRows) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (B, P, d) embeddings up to the latent token, and their mask."""
        recommender, reader = self.recommender, self.recommender.reader
        titles = recommender.catalog.titles.tolist()
        table = reader.table(recommender.vectors, titles)
        histories = PaddedHistories.of(rows, recommender.max_history, recommender.evidence.lag_bounds)
        batch = reader.batch(histories, table)
        writer = reader.writer
        prompt, mask = writer.prompt.around(writer.encoder.trunk, writer.encoder.embed(batch))
        latent = writer.latent_token(torch.from_numpy(latent_vectors(recommender, rows)))[:, None]
        return torch.cat([prompt, latent], dim=1), torch.nn.functional.pad(mask, (0, 1), value=1)


def tokenized(tree: TitleTree) -> Lists:
    """Return the tokens of every title of a tree, without the end token."""
    paths = tree.paths(np.arange(tree.n_titles))
    return [tuple(tree.token[path[path >= 0]][:-1].tolist()) for path in paths]


def latent_vectors(recommender: TitleRecommender, rows: HistoryRows) -> Floats:
    """Return the (B, D) vectors that titles are written after."""
    mixture = recommender.guide.mixture(rows, recommender.states(rows))
    return expected_vectors(recommender.expected(mixture, rows, EVERYTHING), recommender.vectors)


def listed(recommender: TitleRecommender, rows: HistoryRows, titles: Lists) -> Lists:
    """Return each user's best distinct titles as tokens."""
    columns = columns_for(rows, recommender.max_history)
    histories = PaddedHistories.of(rows, columns, recommender.evidence.lag_bounds)
    prompted = recommender.reader.prompt(histories, recommender.vectors, recommender.catalog.titles.tolist())
    latent = latent_vectors(recommender, rows)
    beams = recommender.model.title.beams
    found = TitleSearch(recommender.tree, recommender.reader, prompted, latent, width=beams).run()
    return [[titles[title] for title in found.title[found.user == user]] for user in range(len(rows))]


def timed(search: Callable[[HistoryRows], Lists], rows: HistoryRows, batch: int) -> tuple[Lists, float]:
    """Search in batches after a warm-up; return the lists and users per second."""
    search(rows.select(slice(0, 4)))
    began, lists = time.perf_counter(), []
    for start in range(0, len(rows), batch):
        lists += search(rows.select(slice(start, start + batch)))
    return lists, len(rows) / (time.perf_counter() - began)


def costs(recommender: TitleRecommender, rows: HistoryRows, n_written: int) -> dict[str, float]:
    """Return the milliseconds a user that each part of a search takes, for all rows at once."""
    reader, seconds = recommender.reader, {}

    def clocked(name: str, part: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        made = part()
        seconds[name] = time.perf_counter() - began
        return made

    histories = PaddedHistories.of(rows, columns_for(rows, recommender.max_history), recommender.evidence.lag_bounds)
    titles = recommender.catalog.texts.tolist()
    vectors = recommender.vectors
    prompted = clocked("prompt", lambda: reader.prompt(histories, vectors, titles))
    latent = clocked("factors, their expectation", lambda: latent_vectors(recommender, rows))
    beams = recommender.model.title.beams
    search = clocked("latent token", lambda: TitleSearch(recommender.tree, reader, prompted, latent, width=beams))
    clocked("search for the title", search.run)
    clocked(f"{n_written} written tokens", lambda: written_thought(reader, prompted, n_written))
    return {name: 1000 * value / len(rows) for name, value in seconds.items()}


def written_thought(reader: TorchWriter, prompted: Prompted, n: int) -> Prompted:
    """Go on from the prompts with ``n`` tokens each, the likeliest ones: a chain of thought, whatever it says."""
    mask, cache = prompted
    token = np.full((len(mask), 1), reader.tokenizer.separator[-1], np.int64)
    no_latent = np.zeros((len(mask), 0, reader.writer.spell.in_features), np.float32)
    for _ in range(n):
        place = mask.sum(axis=1, keepdims=True)
        mask = np.pad(mask, ((0, 0), (0, 1)), constant_values=1)
        states, cache = reader.extend(cache, token, place, mask[:, None] > 0, no_latent)
        token = (states[:, 0] @ reader.head.T).argmax(axis=1)[:, None]
    return Prompted(mask, cache)


def main() -> None:
    """Measure the three searches on the same rows and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--written", type=int, default=100, help="tokens of a written chain of thought")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    run = load_run(arguments.run)
    rows = Dataset.of(run.manifest, arguments.data).rows("valid").subsample(arguments.rows)
    threads = torch.get_num_threads()
    recommenders = {
        "flr, torch": run.recommender(),
        "flr, ONNX Runtime": load_bundle(arguments.bundle, threads=threads),
    }
    trunk = recommenders["flr, torch"].reader.writer.encoder.trunk
    for in_bf16 in dict.fromkeys([False, trunk.bf16]):
        trunk.bf16 = in_bf16
        parts = costs(recommenders["flr, torch"], rows.select(slice(0, arguments.batch)), arguments.written)
        figures = ", ".join(f"{name} {value:.0f}" for name, value in parts.items())
        console.print(f"milliseconds a user, {'bf16' if in_bf16 else 'fp32'}: {figures}")
    trunk.bf16 = False  # as transformers multiplies
    titles = tokenized(recommenders["flr, torch"].tree)
    reference = Reference(recommenders["flr, torch"], arguments.run)
    results = {"transformers generate": timed(reference.lists, rows, arguments.batch)}
    for name, recommender in recommenders.items():
        results[name] = timed(lambda part, r=recommender: listed(r, part, titles), rows, arguments.batch)
    show(results, set(titles), len(rows), threads, arguments.json)


def show(results: dict, valid: set, n_rows: int, threads: int, path: Path | None) -> None:  # type: ignore[type-arg]
    """Print users per second, agreement with the reference and invalid titles."""
    expected, base = next(iter(results.values()))
    table = Table(title=f"{n_rows} validation rows, {threads} threads", title_justify="left")
    for column in ("", "users/s", "times", "same list", "same titles", "invalid"):
        table.add_column(column, justify="right" if column else "left")
    figures = {}
    for name, (lists, rate) in results.items():
        cut = [(one, other[: len(one)]) for one, other in zip(lists, expected, strict=True)]
        figures[name] = {
            "users_per_second": rate,
            "times": rate / base,
            "same_list": float(np.mean([one == other for one, other in cut])),
            "same_titles": float(np.mean([len(set(one) & set(other)) / len(other) for one, other in cut])),
            "invalid": sum(title not in valid for row in lists for title in row),
        }
        row = figures[name]
        shares = [f"{100 * row[share]:.1f} %" for share in ("same_list", "same_titles")]
        table.add_row(name, f"{rate:.2f}", f"{row['times']:.1f}", *shares, str(row["invalid"]))
    console.print(table)
    if path:
        path.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
