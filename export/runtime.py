"""The exported network behind the `Reader` protocol: ONNX Runtime and numpy, without torch.

Shapes: B users, L history columns, S tokens, D width of item vectors, M items.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flr_export.bundle import AGAIN, TITLE_HEAD, TITLE_TREE, TITLE_WRITER, Bundle, Place
from flr_export.item_encoder import TOKENIZER, OnnxItemEncoder
from flr_export.sessions import on_gpu, open_session, run
from flr_model.arrays import Floats, Ints
from flr_model.artifacts import reading
from flr_model.config import BACKBONE, ModelConfig
from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD
from flr_model.errors import ArtifactError, ConfigError
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.ranking.evidence import Evidence
from flr_model.ranking.item_table import ItemTable
from flr_model.ranking.lags import PaddedHistories
from flr_model.ranking.recommender import Recommender, UserStates
from flr_model.titles.recommender import TitleRecommender
from flr_model.titles.search import Prompted
from flr_model.titles.tokens import TextBatch, TextHistories, TitleTokenizer, reader_tokenizer
from flr_model.titles.tree import TitleTree


class OnnxReader:
    """The exported graphs of a bundle.

    Args:
        reader: graph from histories to user states, in the folder of the bundle; what reads titles and text lies beside
            it, and is loaded only when there is some to read.
        model: the shape of the model.
        threads: of one call; 0 takes all cores. Several calls at once, with one thread each, are faster.
        arena: keep memory between calls; only where batches have about the same number of positions, as those of items
            have: with text and titles, which vary, an arena only grows.

    Raises:
        ArtifactError: if a graph cannot be loaded.
        MissingExtraError: if onnxruntime is not installed.
    """

    def __init__(
        self,
        reader: Path,
        model: ModelConfig,
        *,
        threads: int = 0,
        arena: bool = False,
    ) -> None:
        self.model = model
        self._folder = reader.parent
        self._item_encoder = OnnxItemEncoder(self._folder, model, threads=threads)
        self._reader = open_session(reader, threads=threads, arena=arena)
        self._tokens: dict[str, Ints] = {}

    def read(self, histories: PaddedHistories, vectors: Floats, titles: Sequence[str]) -> UserStates:
        """Read B histories (see `flr_model.ranking.recommender.Reader`)."""
        return UserStates(*run(self._reader, READ, self.feeds(histories, vectors, titles)))

    def feeds(self, histories: PaddedHistories, vectors: Floats, titles: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Make the graph's inputs of B histories."""
        text = partial(self._text, titles=titles) if self._reads_text else None
        return ItemTable(vectors, text).inputs(histories)

    def encode_titles(self, titles: Sequence[str]) -> Floats:
        """Return the (n, D) item vectors of n titles; n is at least 1."""
        return self._item_encoder.encode_titles(titles)

    @cached_property
    def _reads_text(self) -> bool:
        return "input_ids" in {node.name for node in self._reader.get_inputs()}

    @cached_property
    def _tokenizer(self) -> TitleTokenizer:
        return reader_tokenizer(self._folder / TOKENIZER, BACKBONE, self.model)

    def _text(self, histories: Ints, titles: Sequence[str]) -> TextBatch:
        """Write histories as text; a title is tokenised when a history first meets it."""
        positions, local = np.unique(histories, return_inverse=True)
        local = local.reshape(histories.shape)
        if PAD in positions[:1]:
            positions, local = positions[1:], local - 1
        met = [titles[position] for position in positions]
        new = [title for title in dict.fromkeys(met) if title not in self._tokens]
        self._tokens.update(zip(new, self._tokenizer.encode(new), strict=True))
        tokens = [self._tokens[title] for title in met]
        return TextHistories(tokens, self._tokenizer.separator, self.model.max_tokens).encode(local)


class OnnxWriter(OnnxReader):
    """Read histories and write titles with ONNX Runtime (see `flr_model.titles.recommender.Writer`).

    It takes what `OnnxReader` takes; the graph that writes and the output embeddings lie beside the reader.
    """

    def __init__(self, reader: Path, model: ModelConfig, *, threads: int = 0) -> None:
        super().__init__(reader, model, threads=threads)
        writer = reader.parent / TITLE_WRITER
        self._writer = open_session(writer, threads=threads, arena=False)
        shapes = {node.name: node.shape for node in self._writer.get_inputs()}
        for graph, names, present in (
            (reader, READ, [node.name for node in self._reader.get_outputs()]),
            (writer, PLACES, list(shapes)),
        ):
            if missing := set(names) - set(present):
                raise ArtifactError(
                    f"{graph} was made by another version of flr: it lacks {', '.join(sorted(missing))}", hint=AGAIN
                )
        self._parts, _, self._heads, _, self._width = shapes["past"]
        head = reader.parent / TITLE_HEAD
        with reading(head, AGAIN):
            self._head = np.asarray(np.load(head, mmap_mode="r", allow_pickle=False))

    @property
    def head(self) -> Floats:
        """The (V, d) output embeddings; rows stay on disk until they are used."""
        return self._head

    def tokenize(self, titles: Sequence[str]) -> list[Ints]:
        """Return the tokens of titles, without the end token."""
        return self._tokenizer.encode(titles)

    @cached_property
    def _around(self) -> tuple[Ints, Ints]:
        return self._tokenizer.around(self.model.title.prompt)

    def prompt(self, histories: PaddedHistories, vectors: Floats, titles: Sequence[str]) -> Prompted:
        """Read B histories in the prompt."""
        feeds = self.feeds(histories, vectors, titles)
        n_users, before, after = len(histories.items), *map(len, self._around)
        if self._reads_text:
            real, tokens, kind = feeds["attention_mask"], feeds["input_ids"], Place.TOKEN
            at_items = np.zeros((*tokens.shape, vectors.shape[1]), np.float32)
        else:
            real, at_items, kind = feeds["history_mask"], feeds["item_vectors"], Place.ITEM
            tokens = np.zeros(real.shape, np.int64)
        sides = ((0, 0), (before, after))
        mask = np.pad(real, sides, constant_values=1)
        around = [np.broadcast_to(side, (n_users, len(side))) for side in self._around]
        place = np.arange(mask.shape[1])
        seen = (place <= place[:, None]) & (mask[:, None] > 0) | (place == place[:, None])
        _, cache = self._read(
            np.zeros((self._parts, n_users, self._heads, 0, self._width), np.float32),
            np.concatenate([around[0], tokens, around[1]], axis=1),
            np.pad(at_items, (*sides, (0, 0))),
            np.pad(np.full(real.shape, kind, np.int64), sides, constant_values=Place.TOKEN),
            np.maximum(mask.cumsum(axis=1) - 1, 0),
            seen,
        )
        return Prompted(mask.astype(np.int64), cache)

    def extend(
        self, cache: Any, tokens: Ints, positions: Ints, mask: npt.NDArray[np.bool_], latent: Floats
    ) -> tuple[Floats, Any]:
        """Read latent tokens and tokens behind cached places (see `flr_model.titles.search.TitleReader`)."""
        after, before = ((0, 0), (0, tokens.shape[1])), ((0, 0), (latent.shape[1], 0))
        kind = np.pad(np.full(latent.shape[:2], Place.LATENT, np.int64), after, constant_values=Place.TOKEN)
        return self._read(cache, np.pad(tokens, before), np.pad(latent, (*after, (0, 0))), kind, positions, mask)

    def _read(self, cache: Any, *places: npt.NDArray[Any]) -> tuple[Floats, Any]:
        """Run the graph that writes on what `PLACES` names; return states and the cache of all places."""
        feeds = {"past": cache, **dict(zip(PLACES, places, strict=True))}
        states, present = run(self._writer, ("states", "present"), feeds)
        return states, present

    def keep(self, cache: Any, users: Ints) -> Any:
        """Return the cache of some of the users."""
        return cache[:, users]


PLACES = ("input_ids", "vectors", "kind", "position_ids", "seen")
"""Inputs of the graph that writes titles, beside the cached places."""

READ = ("queries", "gates", "attention", "weights", "factors")
"""Outputs of the graph that reads histories, for either decoder."""


def load_bundle(bundle: Path, *, threads: int = 0, guidance: float | None = None, index: str = "exact") -> Recommender:
    """Open a bundle folder for scoring; item vectors stay on disk until they are used.

    On a GPU the fp32 graph is used: the int8 products exist for processors only.

    Args:
        bundle: the folder.
        threads: of one call of the network; 0 takes all cores.
        guidance: weight of the factors in the search for titles; None takes the bundle's.
        index: "ann" ranks only the items that an approximate index finds near a user, and those with evidence.

    Raises:
        ArtifactError: if the folder is not a complete bundle, or its parts do not fit together.
        ConfigError: if a guidance or an index is asked for that the bundle's decoder does not have.
        MissingExtraError: if onnxruntime, or faiss for the index, is not installed.
    """
    opened = Bundle.open(bundle)
    model = opened.model.with_guidance(guidance)
    if index == "ann" and model.decoder == "title":  # a search for titles looks at no item's vector
        raise ConfigError("--index ann is for bundles of --decoder catalog")
    with reading(bundle / "items.parquet", AGAIN):
        catalog = Catalog.read(bundle / "items.parquet")
    with reading(bundle / "item_vectors.npy", AGAIN):
        # asarray: a plain view on the mapped file, so that results of arithmetic are plain arrays too
        vectors = np.asarray(np.load(bundle / "item_vectors.npy", mmap_mode="r", allow_pickle=False))
    with reading(bundle / "evidence.npz", AGAIN):
        evidence = Evidence.read(bundle / "evidence.npz")
    if not len(vectors) == len(catalog) == evidence.n_items:
        raise ArtifactError(
            f"{bundle} has {len(catalog)} items, {len(vectors)} item vectors and evidence of {evidence.n_items} items",
            hint=AGAIN,
        )
    if model.decoder == "title":
        writer = OnnxWriter(opened.reader, model, threads=threads)
        return TitleRecommender(writer, catalog, vectors, evidence, _read_tree(bundle, len(catalog)), model)
    graph = bundle / "reader.onnx" if on_gpu() else opened.reader
    arena = model.encoding == "items"
    reader = OnnxReader(graph, model, threads=threads, arena=arena)
    if index == "ann":
        from flr_export.scoring.index import FaissIndex

        near = FaissIndex.build(vectors)
    else:
        near = None
    return CatalogRecommender(reader, catalog, vectors, evidence, max_history=model.max_history, index=near)


def _read_tree(bundle: Path, n_items: int) -> TitleTree:
    with reading(bundle / TITLE_TREE, AGAIN):
        tree = TitleTree.read(bundle / TITLE_TREE)
    if len(tree.items) != n_items:
        raise ArtifactError(f"{bundle} has {n_items} items, but a tree of the titles of {len(tree.items)}", hint=AGAIN)
    return tree
