import numpy as np
import torch

from flr_model.config import ModelConfig
from flr_model.nn.evidence_head import EvidenceHead
from flr_model.nn.recency import Recency
from flr_model.nn.title_decoder import TitleDecoder
from flr_model.nn.title_head import TitleHead
from flr_model.ranking.lags import PaddedHistories
from flr_model.ranking.pair_events import PairEvents
from flr_model.titles.recommender import TitleRecommender
from tests.builders import catalog_of, rows_of

N_ITEMS, LENGTH = 9, 4


def test_what_guides_the_search_is_what_training_counted():
    rng = np.random.default_rng(0)
    rows = rows_of(
        {f"u{n}": list(zip(rng.integers(N_ITEMS, size=7).tolist(), range(1, 8), strict=True)) for n in range(5)}
    )
    events = PairEvents.count(rows, N_ITEMS)
    n_lags = len(events.lag_bounds) + 1
    torch.manual_seed(0)
    head = TitleHead(
        TitleDecoder(),
        EvidenceHead(1, n_lags, max_history=LENGTH),
        Recency(1, LENGTH, n_lags),
        end_token=0,
        whole_vocabulary=False,
    )
    head.evidence.attach(events)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    head.requires_grad_(False)
    lags = torch.from_numpy(PaddedHistories.of(rows, LENGTH, events.lag_bounds).lags)
    counted = head.count(lags, head.encode(rows, training=False), N_ITEMS)
    model = ModelConfig(backbone="none", decoder="title", max_history=LENGTH, n_factors=2)
    vectors, evidence, recency = np.zeros((N_ITEMS, 2), np.float32), head.evidence.bake(), head.recency.bake()
    guide = TitleRecommender(None, catalog_of([*"abcdefghi"]), vectors, evidence, recency, None, model)
    np.testing.assert_allclose(guide._counts(rows), counted.numpy(), atol=1e-4)
    assert (counted != 0).float().mean() > 0.3
