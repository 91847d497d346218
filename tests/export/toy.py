"""A bundle whose answers can be worked out by hand.

Items a, c, e have vectors (1, 0), (.9, 0), (.8, 0); b, d, f have (0, 1), (0, .9), (0, .8). The network averages the
history's vectors. The first of two factors, with a gate of 3/4, asks for the average, and counts that item a was once
bought with f: one more time the weight. The second, with a gate of 1/4, gives all items the same probability.
So after the history [a] the first factor's logits are c .9, e .8, f ln 2 = .69, b 0, d 0, which is the order of the
items for both together. A title's vector counts its words "even" and "odd".
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from flr_model.artifacts import Manifest
from flr_model.data.catalog import Catalog
from flr_model.data.histories import PAD
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.ranking.evidence import Evidence
from flr_model.ranking.recommender import UserStates

GATES = np.asarray([0.75, 0.25], np.float32)
ASKS = np.asarray([1.0, 0.0], np.float32)
"""How much of the average each factor asks for."""
IDS = np.asarray(list("abcdef"), object)
TITLES = np.asarray(["even one", "odd one", "even two", "odd two", "even three", "odd three"], object)
VECTORS = np.asarray([[1, 0], [0, 1], [0.9, 0], [0, 0.9], [0.8, 0], [0, 0.8]], np.float32)
VOCABULARY = {"?": 0, "even": 1, "odd": 2, "one": 3, "two": 4, "three": 5}
MAX_HISTORY = 3


class ToyReader:
    """The network in numpy."""

    def read(self, histories, vectors, titles):
        items = histories.items
        mask = np.repeat((items != PAD)[:, None].astype(np.float32), 2, axis=1)
        attention = mask / np.maximum(mask.sum(axis=2, keepdims=True), 1)
        factors = attention @ np.where((items == PAD)[..., None], 0, vectors[np.maximum(items, 0)])
        gates = np.repeat(GATES[None], len(items), axis=0)
        return UserStates(factors * ASKS[:, None], gates, attention, mask, factors)

    def encode_titles(self, titles):
        return np.asarray([[t.split().count("even"), t.split().count("odd")] for t in titles], np.float32)


def toy_evidence() -> Evidence:
    return Evidence(
        indptr=np.asarray([0, 1, 1, 1, 1, 1, 1]),
        neighbour=np.asarray([5]),
        value=np.asarray([[1, 0]], np.float32),
        weight=np.ones(2, np.float32),
        scale=np.ones(2, np.float32),
        seen=0.0,
        lag_bounds=np.zeros(1, np.int64),
    )


def toy_joint(history: list[int]) -> np.ndarray:
    """What each factor gives each item: (2, 6) gates times probabilities after a history of positions."""
    logits = np.zeros((2, 6))
    newest = history[-MAX_HISTORY:]
    logits[0] = VECTORS @ VECTORS[newest].mean(axis=0)
    logits[0, 5] += np.log1p(newest.count(0))
    chances = np.exp(logits)
    return GATES[:, None] * chances / chances.sum(axis=1, keepdims=True)


def toy_recommender(reader=None, index=None) -> CatalogRecommender:
    return CatalogRecommender(
        reader or ToyReader(), Catalog(IDS, TITLES), VECTORS, toy_evidence(), max_history=MAX_HISTORY, index=index
    )


def write_toy_bundle(
    folder: Path, *, encoding: str = "items", files: dict[str, str] | None = None, degree: np.ndarray | None = None
) -> Path:
    folder.mkdir()
    Catalog(IDS, TITLES).write(folder / "items.parquet")
    np.save(folder / "item_vectors.npy", VECTORS)
    replace(toy_evidence(), degree=degree).write(folder / "evidence.npz")
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    write_reader(folder / "reader.onnx", encoding)
    write_item_encoder(folder / "item_encoder.onnx")
    model = {"encoding": encoding, "n_factors": 2, "max_history": MAX_HISTORY, "max_tokens": 8, "title_tokens": 4}
    names = files or {"reader": "reader.onnx", "item_encoder": "item_encoder.onnx"}
    content = {"files": names}
    Manifest("bundle", {"model": model}, content).write(folder)
    return folder


def write_reader(path: Path, encoding: str) -> None:
    """The same network as a graph; with text, the factors are instead the sum of each history's token ids."""
    from onnx import TensorProto, helper

    node = helper.make_node
    nodes = [
        node("Cast", ["history_mask"], ["mask"], to=TensorProto.FLOAT),
        node("ReduceSum", ["mask", "last"], ["length"], keepdims=1),
        node("Div", ["mask", "length"], ["weight"]),
        node("Unsqueeze", ["weight", "one"], ["row"]),
        node("Concat", ["row", "row"], ["attention"], axis=1),
        node("Unsqueeze", ["mask", "one"], ["mask_row"]),
        node("Concat", ["mask_row", "mask_row"], ["weights"], axis=1),
        node("MatMul", ["attention", "item_vectors"], ["pooled"]),
        node("ReduceSum", ["weight", "last"], ["unit"], keepdims=1),
        node("Mul", ["unit", "gate"], ["gates"]),
        node("Mul", ["pooled", "asks"], ["queries"]),
    ]
    inputs = {"item_vectors": (TensorProto.FLOAT, ["B", "L", 2])}
    inputs |= {name: (TensorProto.INT64, ["B", "L"]) for name in ("history_mask", "history_lag")}
    if encoding == "text":
        nodes += [
            node("Mul", ["input_ids", "attention_mask"], ["kept"]),
            node("ReduceSum", ["kept", "last"], ["token_sum"], keepdims=1),
            node("Cast", ["token_sum"], ["token_float"], to=TensorProto.FLOAT),
            node("Unsqueeze", ["token_float", "one"], ["factors"]),
        ]
        inputs |= {name: (TensorProto.INT64, ["B", "S"]) for name in ("input_ids", "attention_mask", "token_slot")}
    else:
        nodes.append(node("Identity", ["pooled"], ["factors"]))
    constants = [
        helper.make_tensor("last", TensorProto.INT64, [1], [-1]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("gate", TensorProto.FLOAT, [1, 2], GATES.tolist()),
        helper.make_tensor("asks", TensorProto.FLOAT, [1, 2, 1], ASKS.tolist()),
    ]
    outputs = {"queries": 3, "gates": 2, "attention": 3, "weights": 3, "factors": 3}
    _save(path, nodes, inputs, {name: (TensorProto.FLOAT, [None] * n) for name, n in outputs.items()}, constants)


def write_item_encoder(path: Path) -> None:
    from onnx import TensorProto, helper

    node = helper.make_node
    nodes = [node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT)]
    for word in ("even", "odd"):
        nodes += [
            node("Equal", ["input_ids", f"id_{word}"], [f"is_{word}"]),
            node("Cast", [f"is_{word}"], [f"float_{word}"], to=TensorProto.FLOAT),
            node("Mul", [f"float_{word}", "mask"], [f"kept_{word}"]),
            node("ReduceSum", [f"kept_{word}", "last"], [f"n_{word}"], keepdims=1),
        ]
    nodes.append(node("Concat", ["n_even", "n_odd"], ["item_vectors"], axis=1))
    constants = [helper.make_tensor("last", TensorProto.INT64, [1], [-1])]
    constants += [helper.make_tensor(f"id_{w}", TensorProto.INT64, [1], [VOCABULARY[w]]) for w in ("even", "odd")]
    inputs = {name: (TensorProto.INT64, ["n", "S"]) for name in ("input_ids", "attention_mask")}
    _save(path, nodes, inputs, {"item_vectors": (TensorProto.FLOAT, ["n", 2])}, constants)


def _save(path, nodes, inputs, outputs, constants) -> None:
    import onnx
    from onnx import helper

    infos = [
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in side.items()]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "toy", *infos, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
