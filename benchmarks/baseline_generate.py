"""The way the papers' code scores: the language model writes a title, ten beams, kept to titles of the catalogue."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from flr_model.assets.wheels import ASSETS, asset_path
from flr_model.data.histories import HistoryRows

BEAMS = 10


def users_per_second(run: Path, rows: HistoryRows, *, n_users: int) -> float:
    """Generate titles for a few users with the whole backbone of a run, in fp32, one user at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    from flr_model.nn.run import load_run

    opened = load_run(run)
    name = opened.config.backbone
    place = str(asset_path(name)) if name in ASSETS else name
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
    tokenizer = opened.tokenizer()
    titles = [tokens.tolist() for tokens in tokenizer.encode(opened.catalog.titles.tolist())]
    end = int(model.config.eos_token_id)
    tree: dict[int, Any] = {}
    for title in titles:
        node = tree
        for token in [*title, end]:
            node = node.setdefault(token, {})
    began = time.perf_counter()
    for user in range(n_users):
        items = rows.items[rows.offsets[user] : rows.offsets[user + 1]].tolist()
        prompt = [token for item in items for token in (*titles[item], *tokenizer.separator.tolist())]

        def allowed(_: int, written: Any, start: int = len(prompt)) -> list[int]:
            node = tree
            for token in written[start:].tolist():
                node = node.get(token, {})
            return list(node) or [end]

        ids = torch.tensor([prompt])
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            do_sample=False,
            max_new_tokens=max(map(len, titles)) + 1,
            prefix_allowed_tokens_fn=allowed,
            pad_token_id=end,
        )
    return n_users / (time.perf_counter() - began)
