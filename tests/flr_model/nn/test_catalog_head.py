import math

import numpy as np
import pytest
import torch
from torch import nn

from flr_model.nn.catalog_decoder import CatalogDecoder
from flr_model.nn.catalog_head import CatalogHead, FactorPrediction
from flr_model.nn.evidence_head import EvidenceHead
from flr_model.nn.history_encoders import HistoryBatch
from flr_model.nn.item_vectors import ItemVectors
from flr_model.nn.model import Reading
from flr_model.nn.reasoner import History, Thought
from flr_model.nn.sampled_softmax import SampledItems, Softmax
from flr_model.ranking.mixture import Mixture
from flr_model.ranking.pair_events import PairEvents
from tests.builders import rows_of

N_ITEMS, N_FACTORS, WIDTH, SIZE, LENGTH = 15, 3, 5, 4, 6

# Two factors and three items; exp of the logits: 1, 2, 1 and 3, 4, 1. The gates are 1/4 and 3/4.
PREDICTED = FactorPrediction(
    torch.tensor([[[1.0, 2.0, 1.0], [3.0, 4.0, 1.0]]]).log(), torch.tensor([[0.25, 0.75]]).log(), torch.tensor([1])
)


class Case:
    """A head with random weights in every part, rows of a catalogue, and what a model could have read of them."""

    def __init__(self):
        torch.manual_seed(0)
        rng = np.random.default_rng(0)
        self.rows = rows_of(
            {f"u{n}": list(zip(rng.integers(N_ITEMS, size=7).tolist(), range(1, 8), strict=True)) for n in range(6)}
        )
        events = PairEvents.count(self.rows, N_ITEMS)
        evidence = EvidenceHead(N_FACTORS, len(events.lag_bounds) + 1, max_history=LENGTH)
        evidence.attach(events)
        self.head = CatalogHead(CatalogDecoder(WIDTH, SIZE, N_FACTORS), evidence).eval()
        for parameter in self.head.parameters():
            nn.init.normal_(parameter, std=0.4)
        self.items = ItemVectors(torch.randn(N_ITEMS, SIZE), events.degree)
        self.head.requires_grad_(False)
        self.items.requires_grad_(False)
        n = len(self.rows)
        padded = torch.from_numpy(self.rows.padded(LENGTH))
        mask = (padded >= 0).long()
        log_weights = torch.randn(n, N_FACTORS, LENGTH).masked_fill(mask[:, None] == 0, torch.finfo(torch.float32).min)
        thought = Thought(
            torch.randn(n, WIDTH),
            torch.randn(n, N_FACTORS, WIDTH),
            torch.randn(n, N_FACTORS),
            log_weights.softmax(-1),
            log_weights,
            torch.zeros(n, N_FACTORS, SIZE),
        )
        vectors = self.items.of_histories(padded)
        history = History(torch.zeros(0), vectors, mask, mask)
        last = torch.randn(n, WIDTH)
        self.reading = Reading(thought, history, last, last, HistoryBatch(vectors, mask, mask))

    def targets(self, *, training=False, sampled=False):
        self.head.softmax = Softmax(0 if sampled else N_ITEMS, N_ITEMS)
        return self.head.encode(self.rows, training=training)

    def loss(self, **how):
        return self.head.loss_terms(None, self.items, self.reading, self.targets(**how))["cross_entropy"]

    def mixture(self):
        """The same numbers, as they rank without torch."""
        thought, (row, item) = self.reading.thought, self.rows.seen()
        seen = np.unique(row * N_ITEMS + item)
        evidence = self.head.evidence.bake()
        return Mixture(
            self.head.decoder(self.reading).numpy(),
            thought.gates.numpy(),
            self.items.frozen(),
            evidence.counts(self.rows, thought.log_weights.exp().numpy()),
            (seen // N_ITEMS, seen % N_ITEMS),
            evidence.seen,
        )


@pytest.fixture(params=["places", "table"])
def case(request, monkeypatch):
    """Both ways to count: the pairs that were met, and a table of all."""
    monkeypatch.setattr("flr_model.ranking.evidence.TABLE_SHARE", {"places": 0, "table": 10**9}[request.param])
    return Case()


def test_likelihoods_are_those_worked_out_by_hand():
    torch.testing.assert_close(PREDICTED.log_likelihoods(), torch.tensor([[1 / 2, 1 / 2]]).log())
    # 1/4 (1, 2, 1) / 4 + 3/4 (3, 4, 1) / 8
    torch.testing.assert_close(PREDICTED.log_probabilities(), torch.tensor([[11.0, 16.0, 5.0]]).log() - math.log(32))


def test_the_loss_is_the_mixtures_likelihood_of_the_target(case):
    probability = case.head.predict(case.items, case.reading, case.targets(training=True)).log_probabilities()
    torch.testing.assert_close(probability.exp().sum(1), torch.ones(len(case.rows)))
    expected = -probability[torch.arange(len(case.rows)), torch.from_numpy(case.rows.target)].mean()
    torch.testing.assert_close(case.loss(training=True), expected)


def test_training_and_ranking_give_the_same_probabilities(case):
    found = case.head.predict(case.items, case.reading, case.targets()).log_probabilities()
    mixture = case.mixture()
    assert sum(len(items) for items in mixture.counts.items(len(case.rows))) > len(case.rows)
    np.testing.assert_allclose(found.numpy(), mixture.log_probabilities(), atol=1e-4)


def test_a_factor_without_counts_and_seen_items_ranks_by_vectors_alone(case):
    case.head.evidence.weight.zero_()
    case.head.evidence.seen.zero_()
    logits = case.head.logits(case.items, case.reading, case.targets(), None)
    torch.testing.assert_close(logits, case.head.decoder(case.reading) @ case.items().T)


def test_a_sample_of_all_items_gives_the_full_loss(case):
    torch.testing.assert_close(case.loss(training=True, sampled=True), case.loss(training=True))


def test_logits_of_a_sample_are_those_of_the_whole_catalogue(case):
    items = torch.tensor([1, 4, 5, 11, 14])
    sample = SampledItems(items, torch.ones(5, dtype=torch.bool), 0.0)
    targets = case.targets()
    whole = case.head.logits(case.items, case.reading, targets, None)
    torch.testing.assert_close(case.head.logits(case.items, case.reading, targets, sample), whole[..., items])


def test_own_pairs_are_left_out_while_training(case):
    assert (case.loss(training=True) - case.loss(training=False)).abs() > 1e-3


def test_every_part_learns_from_the_loss(case):
    case.head.requires_grad_(True)
    case.items.requires_grad_(True)
    logits = case.reading.thought.gate_logits.requires_grad_()
    case.loss(training=True).backward()
    learned = dict(case.head.named_parameters()) | dict(case.items.named_parameters()) | {"gates": logits}
    for name, parameter in learned.items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_factors_reward_is_what_it_would_rank_alone(case):
    targets = case.targets()
    found = case.head.factor_rewards("logprob", case.items, case.reading, targets)
    for k in range(N_FACTORS):
        sure = torch.full((len(case.rows), N_FACTORS), -1e9)
        sure[:, k] = 0
        thought = case.reading.thought._replace(gate_logits=sure)
        alone = case.head.predict(case.items, case.reading._replace(thought=thought), targets).log_probabilities()
        torch.testing.assert_close(found[:, k], alone.gather(1, targets.item[:, None])[:, 0])


def test_seen_items_are_no_rivals_of_a_rank(case):
    rows, targets = case.rows, case.targets()
    found = case.head.factor_rewards("ndcg", case.items, case.reading, targets)
    logits = case.head.logits(case.items, case.reading, targets, None).numpy()
    for row in range(len(rows)):
        own = rows.target[row]
        history = rows.items[rows.offsets[row] : rows.offsets[row + 1]]
        rivals = np.setdiff1d(np.arange(N_ITEMS), [own, *history])
        above = (logits[row][:, rivals] >= logits[row][:, [own]]).sum(1)
        np.testing.assert_allclose(found[row], 1 / np.log2(above + 2), rtol=1e-5)


@pytest.mark.parametrize("name", ["logprob", "ndcg"])
def test_the_rewards_of_thoughts_are_the_mixtures(case, name):
    others = torch.randn(len(case.rows), 2, N_FACTORS)

    class Model:
        """Takes a thought for the logits of the gates."""

        def reconsider(self, reading, thought):
            return reading._replace(thought=reading.thought._replace(gate_logits=thought))

    targets = case.targets()
    found = case.head.reward(name, Model(), case.items, case.reading, others, targets)
    assert found.shape == (len(case.rows), 2)
    for g in range(2):
        predicted = case.head.predict(case.items, Model().reconsider(case.reading, others[:, g]), targets)
        chances = predicted.log_probabilities()
        if name == "logprob":
            expected = chances.gather(1, targets.item[:, None])[:, 0]
        else:
            scores = chances.clone()
            scores[tuple(targets.evidence.seen)] = -torch.inf
            own = chances.gather(1, targets.item[:, None])
            rivals = (scores >= own) & (torch.arange(N_ITEMS) != targets.item[:, None])
            expected = 1 / torch.log2(rivals.sum(1) + 2.0)
        torch.testing.assert_close(found[:, g], expected)
