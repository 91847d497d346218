"""What to compute on, and in which numbers."""

from __future__ import annotations

import torch


def best_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def writes_in_bf16() -> bool:
    """Say whether titles are searched for with products in bfloat16: on a CPU, where that is faster."""
    device = best_device()
    return device.type == "cpu" and multiplies_bf16(device)


def multiplies_bf16(device: torch.device) -> bool:
    """Say whether a device has instructions for products in bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    tests = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(test() for test in tests if test is not None)
