"""SASRec and GRU4Rec of RecBole behind the `Scorer` protocol; needs the extra `bench`.

RecBole, because it has both sequential models in one library, with the full softmax over the catalogue as their loss
(RecTools has no GRU4Rec), and because its training rows are flr's own: a history and the item that came next. So the
models, their loss, the optimiser and the loop with early stopping are RecBole's, while the rows and the metric that
stops the training are flr's: every method sees the same histories, of the same length, and is judged by the same code.
No method knows users by their id: a row's history is all that is read of it, for users of the training rows too.

Shapes: B rows of a batch, M items, U users.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from library_input import right_padded
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import GRU4Rec, SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed
from torch.utils.data import DataLoader

from flr_model.arrays import Floats
from flr_model.config import ModelConfig
from flr_model.data.histories import HistoryRows
from flr_model.ranking.candidates import EVERYTHING, Candidates
from flr_model.ranking.recommender import Scorer

Setting = Mapping[str, Any]

_MODELS = {"sasrec": SASRec, "gru4rec": GRU4Rec}
_TRAINING = {"train_batch_size": 256, "learning_rate": 1e-3, "epochs": 200}

LENGTH = ModelConfig().max_history
"""Items of a history that the sequential models read, the newest: as many as flr's network does."""

torch.autograd.set_detect_anomaly(False)  # a module of RecBole turns it on for everybody, which doubles the time


@dataclass(frozen=True)
class Sequential:
    """A trained sequential model of RecBole.

    Args:
        model: its item m + 1 is position m of the catalogue.
        length: items of a history that it reads, the newest.
    """

    model: torch.nn.Module
    length: int

    def scores(self, rows: HistoryRows, candidates: Candidates = EVERYTHING) -> Floats:
        """Return (B, M), -inf for no candidate."""
        self.model.eval()
        with torch.no_grad():
            scores: Floats = self.model.full_sort_predict(_sequences(rows, self.length)).numpy()[:, 1:]
        return candidates.mask(scores, rows)


class _Trainer(Trainer):  # type: ignore[misc]
    """RecBole's trainer, stopped by a metric from outside, the best weights kept in memory."""

    def _valid_epoch(
        self, valid_data: Callable[[], float], show_progress: bool = False
    ) -> tuple[float, dict[str, Any]]:
        return (score := valid_data()), {"NDCG@10": score}

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **_: Any) -> None:
        self.best_weights = copy.deepcopy(self.model.state_dict())


def fit_sequential(
    name: str,
    train: HistoryRows,
    n_items: int,
    setting: Setting,
    *,
    seed: int,
    validate: Callable[[Scorer], float],
    patience: int,
) -> Sequential:
    """Train until the validation metric has stopped rising, and keep the weights of its best epoch.

    Args:
        name: "sasrec" or "gru4rec".
        train: rows with known targets.
        n_items: M.
        setting: keys of RecBole's configuration.
        seed: of initial weights, order and dropout.
        validate: the metric of a scorer, higher is better.
        patience: epochs without a better metric before stopping.
    """
    length = min(int(train.lengths.max()), LENGTH)
    config = _config(name, {**_TRAINING, "stopping_step": patience - 1, "MAX_ITEM_LIST_LENGTH": length, **setting})
    init_seed(seed, reproducibility=True)
    model = _model(name, n_items, config)
    scorer = Sequential(model, length)
    table = _sequences(train, length)
    table.update(Interaction({"item_id": torch.from_numpy(train.target + 1)}))
    order = torch.Generator().manual_seed(seed)
    batches = DataLoader(
        range(len(train)), config["train_batch_size"], shuffle=True, collate_fn=table.__getitem__, generator=order
    )
    with mock.patch("recbole.trainer.trainer.get_tensorboard"):  # it would write into the working directory
        trainer = _Trainer(config, model)
    trainer.fit(batches, lambda: validate(scorer), verbose=False)
    model.load_state_dict(trainer.best_weights)
    return scorer


def untrained(name: str, n_items: int, setting: Setting) -> torch.nn.Module:
    """Return "sasrec" or "gru4rec" for M items with a setting, its weights as drawn."""
    return _model(name, n_items, _config(name, {**_TRAINING, **setting}))


def _model(name: str, n_items: int, config: Config) -> torch.nn.Module:
    model: torch.nn.Module = _MODELS[name](config, SimpleNamespace(num=lambda field: n_items + 1))
    return model


def _sequences(rows: HistoryRows, length: int) -> Interaction:
    items, lengths = right_padded(rows, length)
    return Interaction({"item_id_list": torch.from_numpy(items), "item_length": torch.from_numpy(lengths)})


def _config(model: str, setting: Setting) -> Config:
    """Read RecBole's defaults for a model, without its two habits: it reads our command line, and patches NumPy 1."""
    names = {"sasrec": "SASRec", "gru4rec": "GRU4Rec"}
    fixed = {"use_gpu": False, "train_neg_sample_args": None, "checkpoint_dir": tempfile.gettempdir()}
    logging.getLogger().setLevel(logging.ERROR)
    with mock.patch("sys.argv", ["baselines"]), mock.patch.object(Config, "compatibility_settings"):
        return Config(model=names[model], dataset="rows", config_dict={**fixed, **setting})
