"""The settings of every stage, as frozen dataclasses.

Every field is a flag of the command, a key of the TOML file given with ``--config`` (one table per class) and a line
of the effective configuration that is saved with the result. Checks name a field as the flag is spelled.
"""

from flr_model.config.data import TIME_FORMATS, FilesConfig, PrepareConfig
from flr_model.config.model import BACKBONE, ModelConfig, TitleConfig
from flr_model.config.settings import Settings, flag_name, own_fields, setting
from flr_model.config.training import AlignConfig, TrainConfig, UpdateConfig
from flr_model.config.use import EvalConfig, ExportConfig, ScoreConfig

__all__ = [
    "BACKBONE",
    "TIME_FORMATS",
    "AlignConfig",
    "EvalConfig",
    "ExportConfig",
    "FilesConfig",
    "ModelConfig",
    "PrepareConfig",
    "ScoreConfig",
    "Settings",
    "TitleConfig",
    "TrainConfig",
    "UpdateConfig",
    "flag_name",
    "own_fields",
    "setting",
]
