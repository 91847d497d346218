"""Export to ONNX and scoring with it; ``bundle``, ``scorer`` and ``batch`` never import torch."""
