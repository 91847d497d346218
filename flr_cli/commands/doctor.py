"""`flr doctor`: what is installed here and what this machine offers, without importing anything heavy."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from flr_cli import console
from flr_cli.options import JsonOpt, command
from flr_model import __version__
from flr_model.artifacts import LAYOUTS, open_folder

PACKAGES = {
    "base": ("numpy", "pandas", "pyarrow", "rich", "tokenizers", "typer"),
    "cpu": ("onnxruntime",),
    "gpu": ("onnxruntime-gpu",),
    "ann": ("faiss-cpu",),
    "ray": ("ray",),
    "report": ("jinja2", "matplotlib"),
    "baselines": ("implicit", "scipy", "threadpoolctl"),
    "train": ("accelerate", "gguf", "onnx", "optimum", "optimum-onnx", "peft", "safetensors", "torch", "transformers"),
}


@command()
def doctor(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Dataset, run or bundle: how it was made, instead.")
    ] = None,
    json: JsonOpt = False,
) -> None:
    """Show versions, optional packages, processors, the GPU and the cache: paste it into a bug report.

    With a folder: check that it is whole, and show when, by which command, with what and on which device it was made.
    """
    if folder is not None:
        _show_making(folder, json=json)
        return
    report = examine()
    if json:
        console.emit_json(report)
        return
    packages = report.pop("packages")
    assets = report.pop("assets")
    console.table("System", ["what", "value"], [[name, _text(value)] for name, value in report.items()])
    console.table(
        "Packages",
        ["package", "version", "extra"],
        [[p["name"], p["version"] or "not installed", p["extra"]] for p in packages],
    )
    console.table(
        "Assets", ["asset", "folder"], [[name, path or f"run: flr fetch {name}"] for name, path in assets.items()]
    )


def _show_making(folder: Path, *, json: bool) -> None:
    """Show what a folder's manifest says of its making; opening it checks every file."""
    manifest = open_folder(folder, *LAYOUTS)
    made = manifest.made
    report = {"kind": manifest.kind, "source": manifest.source, **made}
    if json:
        console.emit_json(report)
        return
    command = report.pop("command", None)
    report["libraries"] = [f"{name} {version}" for name, version in made.get("libraries", {}).items()]
    console.table(str(folder), ["what", "value"], [[name, _text(value)] for name, value in report.items()])
    console.line(f"made by: {shlex.join(command) if command else 'Python'}")


def examine() -> dict[str, Any]:
    """Collect the report: JSON values only."""
    from flr_model.assets.wheels import ASSETS, cache_folder

    cache = cache_folder()
    return {
        "flr": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "gpus": _gpus(),
        "onnxruntime_providers": _providers(),
        "cache": str(cache),
        "assets": {name: str(a.folder(cache)) if a.cached(cache) else None for name, a in ASSETS.items()},
        "packages": [
            {"name": name, "version": _version(name), "extra": extra}
            for extra, names in PACKAGES.items()
            for name in names
        ],
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _providers() -> list[str]:
    try:
        import onnxruntime
    except ImportError:
        return []
    return list(onnxruntime.get_available_providers())


def _gpus() -> list[str]:
    """Name the NVIDIA GPUs, as the driver's own tool lists them."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(value) or "none"
    return "not set" if value is None else str(value)
