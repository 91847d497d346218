"""ONNX Runtime: opening a graph on the device that is there, and running it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from flr_model.arrays import Floats
from flr_model.errors import ArtifactError, MissingExtraError

OUT_OF_MEMORY = ("Failed to allocate memory", "out of memory", "bad allocation", "std::bad_alloc")
"""What ONNX Runtime's messages say when memory is short; it has no exception of its own for that."""


def choose_providers(available: Sequence[str]) -> list[str]:
    """Return the execution providers to use: CUDA where it is present, and the CPU."""
    return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]


def on_gpu() -> bool:
    """Say whether ONNX Runtime is here and finds a GPU."""
    try:
        import onnxruntime
    except ImportError:
        return False
    return choose_providers(onnxruntime.get_available_providers())[0] != "CPUExecutionProvider"


def open_session(graph: Path, *, threads: int, arena: bool) -> Any:
    """Open a graph with ONNX Runtime.

    Args:
        graph: the ``.onnx`` file.
        threads: of one operator; 0 takes all cores.
        arena: keep memory between runs; right only where shapes do not vary.

    Raises:
        ArtifactError: if the file is not a graph that this ONNX Runtime can load.
        MissingExtraError: if onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "cpu") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = arena
    options.log_severity_level = 3
    providers = choose_providers(onnxruntime.get_available_providers())
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=providers)
    except Exception as error:  # its exception classes have no common base of their own
        raise ArtifactError(
            f"{graph} cannot be loaded by onnxruntime {onnxruntime.__version__}: {error}",
            hint="make the bundle again with `flr export --onnx`, or upgrade onnxruntime",
        ) from None


def run(session: Any, outputs: Sequence[str], feeds: dict[str, npt.NDArray[Any]]) -> list[Floats]:
    """Run a graph on those of the feeds that it declares.

    Raises:
        MemoryError: if the memory of the device does not suffice.
    """
    declared = {node.name for node in session.get_inputs()}
    try:
        result: list[Floats] = session.run(list(outputs), {name: feeds[name] for name in feeds if name in declared})
    except Exception as error:  # its exception classes have no common base of their own
        if any(sign in str(error) for sign in OUT_OF_MEMORY):
            raise MemoryError(str(error)) from None
        raise
    return result
