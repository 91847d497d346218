"""Pages of runs of the toy recommender, whose titles are plain or hostile."""

from pathlib import Path

import numpy as np

from flr_model.artifacts import Manifest
from flr_model.config import EvalConfig
from flr_model.data.catalog import Catalog, MoreOfItems
from flr_model.data.dataset import Dataset
from flr_model.data.histories import HistoryRows
from flr_model.evaluation.evaluate import evaluate_with_baselines, evaluated_rows
from flr_model.ranking.catalog import CatalogRecommender
from flr_model.report.page import page
from flr_model.report.subject import Subject
from tests.builders import write_dataset
from tests.export.toy import IDS, MAX_HISTORY, VECTORS, ToyReader, toy_evidence

PLAIN = ["even one", "odd one", "even two", "odd two", "even three", "odd three"]
HOSTILE = [
    "<script>alert(1)</script>",
    "{{7*7}}{% raw %}",
    "$x^2$ & \"quotes' <b>",
    "bell\x07 null\x00 escape\x1b[2J",
    "\u202egnorw eht yaw dnuor \u05e9\u05dc\u05d5\u05dd",
    "</title><img src=http://example.com/x onerror=alert(1)>",
]
SHOWN = [
    *HOSTILE[:3],
    r"bell\x07 null\x00 escape\x1b[2J",
    "\\u202egnorw eht yaw dnuor \u05e9\u05dc\u05d5\u05dd",
    HOSTILE[5],
]
TRAIN = HistoryRows.from_lists([[0], [2], [1], [4]], user_id=["u", "v", "w", "x"], target=[2, 4, 3, 0])
ROWS = HistoryRows.from_lists([[0, 2], [1], [4, 0], [5]], user_id=["u", "<i>v</i>", "w", "x"], target=[4, 3, 2, 0])


def written(folder, titles, names=("run",), bootstrap=20):
    """The page of runs by these names, all of the toy recommender on a catalogue of the titles."""
    if not (folder / "data").exists():
        more = MoreOfItems(details={"shelf": np.asarray([*titles[:5], ""], object)})
        catalog = Catalog(IDS, np.asarray(titles, object), more)
        write_dataset(folder / "data", catalog, {"train": TRAIN, "valid": ROWS})
    dataset = Dataset.open(folder / "data")
    recommender = CatalogRecommender(ToyReader(), dataset.catalog, VECTORS, toy_evidence(), max_history=MAX_HISTORY)
    report = evaluate_with_baselines(recommender, dataset, EvalConfig(segment="shelf", bootstrap=bootstrap))
    settings = {"model": {"backbone": titles[0], "n_factors": 2}}
    subjects = [
        Subject(Path(name), Manifest("run", settings=settings), report, {0.0: 0.1, 1.0: 0.2, 2.0: 0.15}, name)
        for name in names
    ]
    return page(subjects, recommender, dataset, evaluated_rows(dataset, report, where=Path("run")))
