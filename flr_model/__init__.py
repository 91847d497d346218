"""Factorized Latent Reasoning: data, network, training and evaluation.

Importing this package imports nothing heavy; torch is loaded by ``flr_model.nn`` and ``flr_model.training`` alone.
"""

__version__ = "0.1.0"

from flr_model.offline import switch_off_telemetry

switch_off_telemetry()
