"""Switches off the reports that libraries send home; `flr_model` and `export` call it before anything is imported."""

from __future__ import annotations

import os

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime's Linux builds from 1.29 on look a host up; read once, at its import
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, and transformers through it
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Environment variables that the libraries under flr read at their import."""


def switch_off_telemetry() -> None:
    """Set the switches for this process and its children; a value that the person has set stays."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
