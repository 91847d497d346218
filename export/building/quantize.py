"""int8 graphs: static quantisation of matrix products, and a search for the layers that have to stay in fp32.

Weights become int8 per output channel; the inputs of the products become uint8 with one scale per tensor, measured on a
few real histories when the graph is written. So a user's result does not depend on who else is in the batch, as it
would with scales taken while scoring. A language model has a few channels with activations hundreds of times the usual
ones; in their tensors the usual values get few of the 256 steps. Where the result suffers, the layers that read such
tensors keep their precision, worst first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from flr_export.sessions import open_session, run

logger = logging.getLogger(__name__)

PRODUCTS = ("MatMul", "Gemm")
LOOKUP = "Gather"
MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own operators; the product that takes uint8 and gives float is one of them."""

SMALLEST = 16
"""Rows and columns of a matrix below which int8 saves nothing."""

WEIGHT_STEPS = 63
"""Weights take 7 of their 8 bits: on processors with AVX2 but without VNNI two full products would overflow, and a
bundle is made on one machine and used on another."""

EXTERNAL_ABOVE = 2**31 - 2**24
"""Bytes of weights above which a graph keeps them in a file beside it: protobuf ends at 2 GiB, nodes need some."""

Feeds = Mapping[str, npt.NDArray[Any]]


class Spread(NamedTuple):
    """What values a tensor takes: the least, the largest, and their root mean square."""

    low: float
    high: float
    rms: float

    @property
    def extreme(self) -> float:
        """The peak in units of the root mean square."""
        return max(abs(self.low), abs(self.high)) / self.rms if self.rms > 0 else 0.0


def quantize_until(source: Path, target: Path, feeds: Feeds, passes: Callable[[Path], bool]) -> list[str] | None:
    """Write the int8 graph with the fewest layers in fp32 that passes.

    Args:
        source: fp32 graph, after `show_constants`.
        target: where the int8 graph goes; nothing is left there when none passes.
        feeds: inputs of a few real histories, to see what values the layers read.
        passes: the gate, called with the graph.

    Returns:
        The nodes that stayed in fp32 though they could be quantised, or None when no graph passes.
    """
    spreads = read_spreads(source, feeds)
    order = sorted(spreads, key=lambda name: -spreads[name].extreme)
    for n in _more_and_more(len(order)):
        quantize(source, target, {name: spreads[name] for name in order[n:]})
        if passes(target):
            return order[:n]
        logger.info("%s: int8 with %d of %d layers in fp32 does not pass", source.stem, n, len(order))
    for path in (target, external_data(target)):
        path.unlink(missing_ok=True)
    return None


def quantize(source: Path, target: Path, spreads: Mapping[str, Spread]) -> None:
    """Write the int8 form of a graph.

    Args:
        source: fp32 graph.
        target: where the int8 graph goes.
        spreads: what the nodes to quantise read, as `read_spreads` gives it.
    """
    model = onnx.load(source)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    graph = _Int8Graph(constants)
    for node in model.graph.node:
        if node.name not in spreads:
            graph.nodes.append(node)
        elif node.op_type == LOOKUP:
            graph.look_up(node)
        else:
            graph.multiply(node, spreads[node.name])
    used = {name for node in graph.nodes for name in node.input}
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(graph.nodes)
    model.graph.initializer.extend(t for t in (*constants.values(), *graph.added.values()) if t.name in used)
    if all(entry.domain != MICROSOFT for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    external_data(target).unlink(missing_ok=True)
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    location = {"save_as_external_data": True, "location": f"{target.name}.data"} if needs_external_data(size) else {}
    onnx.save(model, target, **location)


class _Int8Graph:
    """Nodes of the graph that is written, and the constants that come with them; what is used twice is there once."""

    def __init__(self, constants: Mapping[str, Any]) -> None:
        self.constants = constants
        self.nodes: list[Any] = []
        self.added: dict[str, Any] = {}
        self._inputs: dict[str, tuple[str, str, str]] = {}

    def multiply(self, node: Any, spread: Spread) -> None:
        """Put the int8 product of a node with a constant matrix in its place."""
        values, weight, *bias = node.input
        quantised, scale, zero = self._quantised(values, spread)
        weights, weight_scale = self._weight(weight, axis=1, transposed=_attribute(node, "transB") == 1)
        inputs = [quantised, weights, scale, weight_scale, zero, "", *bias]
        self.nodes.append(
            helper.make_node("MatMulIntegerToFloat", inputs, node.output, f"{node.name}_int8", domain=MICROSOFT)
        )

    def look_up(self, node: Any) -> None:
        """Look rows up in an int8 table, each with its own scale."""
        table, places = node.input
        rows, scale = self._weight(table, axis=0)
        names = [f"{node.output[0]}_{part}" for part in ("int8", "float", "scale")]
        self.nodes += [
            helper.make_node(LOOKUP, [rows, places], names[:1], f"{node.name}_int8"),
            helper.make_node("Cast", names[:1], names[1:2], f"{node.name}_float", to=TensorProto.FLOAT),
            helper.make_node(LOOKUP, [scale, places], names[2:], f"{node.name}_scale"),
            helper.make_node("Mul", names[1:], node.output, node.name),
        ]

    def _quantised(self, values: str, spread: Spread) -> tuple[str, str, str]:
        """Quantise what a product reads, once for all products that read it."""
        if values not in self._inputs:
            low, high = min(spread.low, 0.0), max(spread.high, 0.0)
            step = (high - low) / 255 or 1.0
            scale = self._add(f"{values}_step", np.float32(step))
            zero = self._add(f"{values}_zero", np.uint8(round(-low / step)))
            self.nodes.append(helper.make_node("QuantizeLinear", [values, scale, zero], [f"{values}_uint8"]))
            self._inputs[values] = f"{values}_uint8", scale, zero
        return self._inputs[values]

    def _weight(self, name: str, axis: int, *, transposed: bool = False) -> tuple[str, str]:
        """Quantise a matrix with one scale per index of an axis; returns the names of numbers and scales."""
        names = f"{name}_int8", f"{name}_int8_step"
        if names[0] not in self.added:
            matrix = numpy_helper.to_array(self.constants[name])
            matrix = matrix.T if transposed else matrix
            peak = np.abs(matrix).max(axis=1 - axis)
            step = np.where(peak > 0, peak / WEIGHT_STEPS, 1).astype(np.float32)
            spread_out = step[:, None] if axis == 0 else step
            self._add(names[0], np.round(matrix / spread_out).astype(np.int8))
            self._add(names[1], spread_out if axis == 0 else step)
        return names

    def _add(self, name: str, value: Any) -> str:
        self.added[name] = numpy_helper.from_array(np.asarray(value), name)
        return name


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
    onnx.save(model, graph)


def read_spreads(graph: Path, feeds: Feeds) -> dict[str, Spread]:
    """Find the nodes that can be quantised, and the spread of what they read.

    Args:
        graph: fp32 graph.
        feeds: inputs; only those that the graph declares are used.

    Returns:
        By name of node: of a product with a constant matrix its other input, of a look-up its table.
    """
    model = onnx.load(graph, load_external_data=False)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    products, found = {}, {}
    for node in model.graph.node:
        if node.op_type == LOOKUP and _is_matrix(constants.get(node.input[0])):
            table = numpy_helper.to_array(constants[node.input[0]], str(graph.parent))
            found[node.name] = Spread(float(table.min()), float(table.max()), float(np.sqrt(np.mean(np.square(table)))))
        elif node.op_type in PRODUCTS and _is_matrix(constants.get(node.input[1])) and _is_plain(node):
            products[node.name] = node.input[0]
    spreads = _measured(model, graph, sorted(set(products.values())), feeds)
    return found | {name: spreads[read] for name, read in products.items()}


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
    for name in (f"{graph.name}_data", f"{graph.name}.data"):  # as Optimum and as `quantize` name it
        if (graph.parent / name).exists():
            return graph.parent / name
    return graph.parent / f"{graph.name}_data"


def _measured(model: Any, graph: Path, names: Sequence[str], feeds: Feeds) -> dict[str, Spread]:
    """Run a graph that gives the spread of inner values instead of its outputs."""
    if not names:
        return {}
    parts = ("ReduceMin", "ReduceMax", "ReduceMean")
    nodes = [helper.make_node("Mul", [name, name], [f"{name}_square"]) for name in names]
    for name in names:
        reads = (name, name, f"{name}_square")
        nodes += [
            helper.make_node(part, [read], [f"{name}_{part}"], keepdims=0)
            for part, read in zip(parts, reads, strict=True)
        ]
    model.graph.node.extend(nodes)
    outputs = [f"{name}_{part}" for name in names for part in parts]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    probe = graph.with_name(f"{graph.stem}.probe.onnx")
    try:
        onnx.save(model, probe)
        values = run(open_session(probe, threads=0, arena=False), outputs, dict(feeds))
    finally:
        probe.unlink(missing_ok=True)
    numbers = np.asarray(values, np.float64).reshape(-1, len(parts))
    return {
        name: Spread(low, high, float(np.sqrt(square)))
        for name, (low, high, square) in zip(names, numbers.tolist(), strict=True)
    }


def _attribute(node: Any, name: str) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)


def _is_plain(node: Any) -> bool:
    """A Gemm with factors or a transposed first input has no int8 form here."""
    return all(_attribute(node, name) in (None, 1.0) for name in ("alpha", "beta")) and not _attribute(node, "transA")


def _is_matrix(tensor: Any) -> bool:
    is_float = tensor is not None and tensor.data_type == TensorProto.FLOAT
    return is_float and len(tensor.dims) == 2 and min(tensor.dims) >= SMALLEST


def _more_and_more(n: int) -> Iterator[int]:
    """How many layers to keep in fp32: none, 1, 2, 4, .. up to half of n."""
    if n:
        yield 0
    kept = 1
    while kept <= n // 2:
        yield kept
        kept *= 2
