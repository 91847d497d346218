"""int8 graphs: dynamic quantisation by ONNX Runtime, and a search for the layers that have to stay in fp32.

Weights become int8 per output channel when the graph is written, activations uint8 per tensor while it runs. A language
model has a few channels with activations hundreds of times the usual ones; in their tensors the usual values get few
of the 256 steps. Where the result suffers, the layers that read such tensors keep their precision, worst first.
The head that flr adds, small and close to the result, is never quantised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import add_pre_process_metadata

from export.scorer import open_session, run

logger = logging.getLogger(__name__)

LANGUAGE_MODEL = "/lm/"
"""Part of the names of the language model's nodes: the attribute `lm` of `Trunk` and `ItemEncoder`."""

PRODUCTS = ("MatMul", "Gemm")
LOOKUP = "Gather"

EXTERNAL_ABOVE = 2**31 - 2**24
"""Bytes of weights above which a graph keeps them in a file beside it: protobuf ends at 2 GiB, nodes need some."""

Feeds = Mapping[str, npt.NDArray[Any]]


def quantize_until(source: Path, target: Path, feeds: Feeds, passes: Callable[[Path], bool]) -> list[str] | None:
    """Write the int8 graph with the fewest layers in fp32 that passes.

    Args:
        source: fp32 graph, after `show_constants`.
        target: where the int8 graph goes; nothing is left there when none passes.
        feeds: inputs of a few real histories or titles, to see which layers have extreme activations.
        passes: the gate, called with the graph.

    Returns:
        The nodes that stayed in fp32 though they could be quantised, or None when no graph passes.
    """
    order = most_extreme_first(source, feeds)
    for n in _more_and_more(len(order)):
        quantize(source, target, order[n:])
        if passes(target):
            return order[:n]
        logger.info("%s: int8 with %d of %d layers in fp32 does not pass", source.stem, n, len(order))
    for path in (target, external_data(target)):
        path.unlink(missing_ok=True)
    return None


def quantize(source: Path, target: Path, nodes: Sequence[str]) -> None:
    """Write the int8 form of a graph.

    Weights take 7 of their 8 bits (`reduce_range`): on processors with AVX2 but without VNNI two full products would
    overflow, and a bundle is made on one machine and used on another.

    Args:
        source: fp32 graph.
        target: where the int8 graph goes.
        nodes: names of the nodes to quantise, at least one.
    """
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=[*PRODUCTS, LOOKUP],
        nodes_to_quantize=list(nodes),
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=needs_external_data(graph_bytes(source)),
    )


def show_constants(graph: Path) -> None:
    """Let every node name its weights themselves, in place.

    The exporter writes a weight that is used twice (the language model reads the history, then a latent token) once,
    and an Identity of it for the second use; quantisation takes only nodes whose weight is a constant.
    """
    model = onnx.load(graph, load_external_data=False)
    constants = {tensor.name for tensor in model.graph.initializer}
    alias = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Identity" and node.input[0] in constants
    }
    for node in model.graph.node:
        node.input[:] = [alias.get(name, name) for name in node.input]
    outputs = {output.name for output in model.graph.output}
    kept = [node for node in model.graph.node if node.output[0] not in alias.keys() - outputs]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    add_pre_process_metadata(model)  # else quantisation advises on the root logger to do what is done here
    onnx.save(model, graph)


def most_extreme_first(graph: Path, feeds: Feeds) -> list[str]:
    """Order the nodes to quantise by what a grid of 256 steps loses: the peak of their input over its RMS.

    Args:
        graph: fp32 graph.
        feeds: inputs; only those that the graph declares are used.

    Returns:
        Names of nodes: products with a constant matrix by their activations, look-ups by the table they look up in.
    """
    model = onnx.load(graph, load_external_data=False)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    products, lookups = {}, {}
    for node in model.graph.node:
        if node.op_type == LOOKUP and _is_matrix(constants.get(node.input[0])):
            lookups[node.name] = node.input[0]
        elif node.op_type in PRODUCTS and LANGUAGE_MODEL in node.name and _is_matrix(constants.get(node.input[1])):
            products[node.name] = node.input[0]
    extremes = {
        name: _peak_over_rms(numpy_helper.to_array(constants[table], str(graph.parent)))
        for name, table in lookups.items()
    }
    values = _activations(model, graph, sorted(set(products.values())), feeds)
    extremes |= {name: _peak_over_rms(values[read]) for name, read in products.items()}
    return sorted(extremes, key=lambda name: -extremes[name])


def needs_external_data(n_bytes: int) -> bool:
    """Say whether a graph with this many bytes of weights must keep them in a file of their own.

    >>> needs_external_data(600_000_000), needs_external_data(3_000_000_000)
    (False, True)
    """
    return n_bytes > EXTERNAL_ABOVE


def graph_bytes(graph: Path) -> int:
    """Return the bytes of a graph and of the weights beside it."""
    return sum(path.stat().st_size for path in (graph, external_data(graph)) if path.exists())


def external_data(graph: Path) -> Path:
    """Return where the weights of a graph lie when they are not in it."""
    for name in (f"{graph.name}_data", f"{graph.name}.data"):  # as Optimum and as ONNX Runtime name it
        if (graph.parent / name).exists():
            return graph.parent / name
    return graph.parent / f"{graph.name}_data"


def _activations(model: Any, graph: Path, names: Sequence[str], feeds: Feeds) -> dict[str, npt.NDArray[Any]]:
    """Run a graph that also gives its inner values of these names."""
    if not names:
        return {}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    probe = graph.with_name(f"{graph.stem}.probe.onnx")
    try:
        onnx.save(model, probe)
        session = open_session(probe, threads=0, arena=False)
        return dict(zip(names, run(session, names, dict(feeds)), strict=True))
    finally:
        probe.unlink(missing_ok=True)


def _is_matrix(tensor: Any) -> bool:
    """Per-channel quantisation of a constant of three dimensions gives a graph that cannot be loaded."""
    return tensor is not None and len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT


def _peak_over_rms(values: npt.NDArray[Any]) -> float:
    rms = float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
    return float(np.abs(values).max()) / rms if rms > 0 else 0.0


def _more_and_more(n: int) -> Iterator[int]:
    """How many layers to keep in fp32: none, 1, 2, 4, .. up to half of n."""
    if n:
        yield 0
    kept = 1
    while kept <= n // 2:
        yield kept
        kept *= 2
