import math

import torch

from flr_model.nn.catalog_decoder import CatalogDecoder, NextItemHead
from flr_model.nn.history_encoders import HistoryBatch
from flr_model.nn.model import Reading
from flr_model.nn.reasoner import History, Thought


def reading_of(attention, vectors, *, factors, thought, last=((3.0, 4.0),)):
    """Of what a decoder looks at; tensors or lists."""
    attention, vectors, factors, thought, last = (
        torch.as_tensor(part, dtype=torch.float32) for part in (attention, vectors, factors, thought, last)
    )
    mask = torch.ones(vectors.shape[:2], dtype=torch.long)
    nothing = torch.zeros(0)
    said = Thought(thought, factors, nothing, attention, nothing, nothing)
    return Reading(said, History(nothing, vectors, mask, mask), last, last, HistoryBatch(vectors, mask, mask))


def one_user(**changes):
    usual = {"attention": [[[1.0]]], "vectors": [[[1.0, 2.0]]], "factors": [[[1, 0]]], "thought": [[0, 1]]}
    return reading_of(**{**usual, **changes})


def test_untrained_queries_are_the_attended_vectors_times_the_scale():
    decoder = CatalogDecoder(width=2, embedding_size=2, n_factors=2)
    reading = reading_of([[[0.5, 0.5], [0.0, 1.0]]], [[[2.0, 0], [0, 4]]], factors=[[[1, 2], [4, 5]]], thought=[[1, 1]])
    # Factor 1 reads (1, 2), factor 2 reads (0, 4); tau starts at 12.
    torch.testing.assert_close(decoder(reading), torch.tensor([[[12.0, 24.0], [0.0, 48.0]]]))


def test_maps_add_to_the_query_as_worked_out_by_hand():
    decoder = CatalogDecoder(width=2, embedding_size=2, n_factors=1)
    with torch.no_grad():
        decoder.item_map.copy_(torch.tensor([[0.0, 1.0], [0, 0]]))  # (1, 2) -> (0, 1)
        decoder.factor_down.copy_(torch.tensor([[[0.0, 0.0], [1, 0]]]))  # (1, 2) -> (2, 0)
        decoder.factor_up.copy_(torch.tensor([[[3.0, 0.0], [0, 0]]]))  # (2, 0) -> (6, 0)
        decoder.thought_map.copy_(torch.eye(2)[None])
        decoder.log_scale.fill_(math.log(2))
        decoder.centre.running_mean.copy_(torch.tensor([1.0, 2.0]))
        decoder.centre.running_var.copy_(torch.tensor([4.0, 1.0]))  # (3 - 1) / 2 and (4 - 2) / 1, over sqrt(2)
    decoder.eval()
    queries = decoder(one_user(factors=[[[3, 0]]], thought=[[0, 4]]))
    # 2 ((1, 2) + (0, 1) + (6, 0) + (1, 2) / sqrt(2))
    expected = torch.tensor([[[2 * (7 + 0.5**0.5), 2 * (3 + 2**0.5)]]])
    torch.testing.assert_close(queries, expected, atol=1e-4, rtol=1e-4)


def test_each_factor_has_its_own_map_scale_and_thought():
    torch.manual_seed(0)
    decoder = CatalogDecoder(width=3, embedding_size=2, n_factors=2).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter)
    attention, factors = torch.rand(4, 2, 5), torch.randn(4, 2, 3)
    vectors, thought, last = torch.randn(4, 5, 2), torch.randn(4, 3), torch.zeros(4, 3)
    together = decoder(reading_of(attention, vectors, factors=factors, thought=thought, last=last))
    for k in range(2):
        alone = CatalogDecoder(width=3, embedding_size=2, n_factors=1).eval()
        for name, parameter in decoder.named_parameters():
            own = parameter if name == "item_map" else parameter[k : k + 1]  # the one map that factors share
            getattr(alone, name).data.copy_(own)
        reading = reading_of(
            attention[:, k : k + 1], vectors, factors=factors[:, k : k + 1], thought=thought, last=last
        )
        torch.testing.assert_close(alone(reading)[:, 0], together[:, k])


def test_dropout_spares_the_items_themselves():
    decoder = CatalogDecoder(width=2, embedding_size=2, n_factors=1, dropout=0.9).train()
    torch.testing.assert_close(decoder(one_user()), torch.tensor([[[12.0, 24.0]]]))


def test_what_all_users_share_does_not_count():
    decoder = CatalogDecoder(width=2, embedding_size=2, n_factors=1)
    with torch.no_grad():
        decoder.thought_map.copy_(torch.eye(2)[None])
    users = torch.tensor([[1.0, 2], [3, -1], [0, 1], [2, 2]])

    def queries(shared):
        ones, zeros = torch.ones(4, 1, 1), torch.zeros(4, 1, 2)
        return decoder(reading_of(ones, zeros, factors=zeros, thought=users + shared, last=users))

    assert queries(0.0).abs().max() > 1
    torch.testing.assert_close(queries(0.0), queries(50.0), atol=1e-4, rtol=1e-4)


def test_while_ranking_the_spread_is_that_of_training():
    torch.manual_seed(0)
    decoder = CatalogDecoder(width=2, embedding_size=2, n_factors=1)
    with torch.no_grad():
        decoder.thought_map.copy_(torch.eye(2)[None])
    thoughts, ones, zeros = torch.randn(64, 2) + 3, torch.ones(64, 1, 1), torch.zeros(64, 1, 2)
    reading = reading_of(ones, zeros, factors=zeros, thought=thoughts, last=thoughts)
    for _ in range(100):  # until the running figures are those of the batch
        trained = decoder.train()(reading)
    torch.testing.assert_close(decoder.eval()(reading), trained, atol=0.2, rtol=0.02)


def test_a_batch_of_one_user_can_be_trained_on():
    decoder = CatalogDecoder(width=2, embedding_size=2, n_factors=1).train()
    assert decoder(one_user()).isfinite().all()


def test_the_trunks_own_prediction_is_added_to_every_factor():
    decoder = CatalogDecoder(width=2, embedding_size=2, n_factors=2)
    reading = reading_of(torch.ones(1, 2, 1), [[[2.0, 0]]], factors=[[[1, 2], [4, 5]]], thought=[[1, 1]])
    before = decoder(reading)
    decoder.set_next_item_head(NextItemHead(torch.tensor([[2.0, 0], [0, -2]]), torch.tensor(3.0)), 0.5)
    added = torch.tensor([3.0, -4.0]) / 2**0.5 + 1.5 * torch.tensor([2.0, 0])  # of (3, 4), and of the last item (2, 0)
    torch.testing.assert_close(decoder(reading) - before, added.expand(1, 2, -1))
