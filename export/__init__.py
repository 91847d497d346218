"""Export to ONNX and scoring with it; ``bundle``, ``runtime`` and ``scoring`` never import torch."""

import flr_model  # noqa: F401  switches off telemetry before any module here imports onnxruntime
