"""flr from Python: open a bundle and recommend, or run the stages of the command line (docs/python.md).

    import flr

    bundle = flr.load("bundle")
    bundle.recommend(["item1", "item2"], k=10, because=True)

Importing this package imports nothing heavy; every function brings what it needs when it is called.
"""

import importlib
from typing import TYPE_CHECKING, Any

from flr.making import align, export, prepare, train, update
from flr.using import evaluate, load, report, score
from flr_model import __version__
from flr_model.config import (
    AlignConfig,
    EvalConfig,
    ExportConfig,
    FilesConfig,
    ModelConfig,
    PrepareConfig,
    ScoreConfig,
    TitleConfig,
    TrainConfig,
    UpdateConfig,
)
from flr_model.errors import ArtifactError, ConfigError, DataError, FlrError, GateError

if TYPE_CHECKING:
    from flr.recommender import Recommender
    from flr_export.scoring.most_per import MostPer
    from flr_export.scoring.rules import ItemRules

__all__ = [
    "AlignConfig",
    "ArtifactError",
    "ConfigError",
    "DataError",
    "EvalConfig",
    "ExportConfig",
    "FilesConfig",
    "FlrError",
    "GateError",
    "ItemRules",
    "ModelConfig",
    "MostPer",
    "PrepareConfig",
    "Recommender",
    "ScoreConfig",
    "TitleConfig",
    "TrainConfig",
    "UpdateConfig",
    "__version__",
    "align",
    "evaluate",
    "export",
    "load",
    "prepare",
    "report",
    "score",
    "train",
    "update",
]


_LATER = {
    "ItemRules": "flr_export.scoring.rules",
    "MostPer": "flr_export.scoring.most_per",
    "Recommender": "flr.recommender",
}
"""Classes that need numpy, by their module; it is imported when they are first asked for."""


def __getattr__(name: str) -> Any:
    """Import one of the classes above."""
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
