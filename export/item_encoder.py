"""Vectors of items that come after training: a graph and a tokenizer for each reader of titles.

Shapes: n titles, S tokens, D width of item vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flr_export.sessions import open_session, run
from flr_model.arrays import Floats
from flr_model.config import BACKBONE, ModelConfig
from flr_model.titles.tokens import TitleTokenizer, reader_tokenizer

TOKENIZER = "tokenizer.json"
"""Of the backbone, for titles and histories."""

BATCH_TOKENS = 4096
"""Places of one batch of titles, so that memory stays flat however many items are new."""


class ItemEncoderFile(NamedTuple):
    """The files of one reader of titles, by name in a bundle: its graph and its tokenizer."""

    reader: str
    graph: str
    tokenizer: str


def item_encoder_files(model: ModelConfig) -> list[ItemEncoderFile]:
    """Name the files of every reader of titles, in order."""
    return [
        ItemEncoderFile(
            name,
            "item_encoder.onnx" if number == 0 else f"item_encoder_{number}.onnx",
            TOKENIZER if name == BACKBONE else f"item_tokenizer_{number}.json",
        )
        for number, name in enumerate(model.readers)
    ]


class OnnxItemEncoder:
    """The exported readers of titles; each is loaded when the first title is encoded.

    Args:
        folder: of the bundle.
        model: the shape of the model.
        threads: of one call; 0 takes all cores.
    """

    def __init__(self, folder: Path, model: ModelConfig, *, threads: int = 0) -> None:
        self._folder = folder
        self._model = model
        self._threads = threads

    def encode_titles(self, titles: Sequence[str]) -> Floats:
        """Return the (n, D) item vectors of n titles; n is at least 1.

        Raises:
            ArtifactError: if a graph or a tokenizer cannot be loaded.
        """
        columns = []
        for tokenizer, session in self._readers:
            parts, places = [], []
            for which, input_ids, attention_mask in tokenizer.batches(titles, BATCH_TOKENS):
                feeds = {"input_ids": input_ids, "attention_mask": attention_mask}
                parts += run(session, ("item_vectors",), feeds)
                places.append(which)
            columns.append(np.concatenate(parts)[np.argsort(np.concatenate(places))])
        return np.concatenate(columns, axis=1)

    @cached_property
    def _readers(self) -> list[tuple[TitleTokenizer, Any]]:
        return [
            (
                reader_tokenizer(self._folder / file.tokenizer, file.reader, self._model),
                open_session(self._folder / file.graph, threads=self._threads, arena=False),
            )
            for file in item_encoder_files(self._model)
        ]
