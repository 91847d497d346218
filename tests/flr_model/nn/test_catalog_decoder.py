import math

import torch

from flr_model.nn.catalog_decoder import CatalogDecoder, NextItemHead
from flr_model.nn.reasoner import Thought

LAST = torch.tensor([[3.0, 4.0]])


def thought_of(factors, thought, gates):
    tensors = (torch.tensor(value, dtype=torch.float32) for value in (thought, factors, gates))
    return Thought(*tensors, attention=torch.zeros(0))


def test_untrained_queries_are_the_attended_vectors_times_gate_and_scale():
    decoder = CatalogDecoder(width=2, embedding_size=2, n_factors=2)
    thought = thought_of(factors=[[[1, 2], [4, 5]]], thought=[[1, 1]], gates=[[0.25, 0.75]])
    attention = torch.tensor([[[0.5, 0.5], [0.0, 1.0]]])
    vectors = torch.tensor([[[2.0, 0], [0, 4]]])
    # Factor 1 reads (1, 2), factor 2 reads (0, 4); tau starts at 12: 12 * 0.25 * (1, 2) and 12 * 0.75 * (0, 4).
    torch.testing.assert_close(decoder(thought, attention, vectors, LAST), torch.tensor([[[3.0, 6.0], [0.0, 36.0]]]))


def test_maps_add_to_the_query_as_worked_out_by_hand():
    decoder = CatalogDecoder(width=2, embedding_size=2, n_factors=1)
    with torch.no_grad():
        decoder.item_map.copy_(torch.tensor([[[0.0, 1.0], [0, 0]]]))  # (1, 2) -> (0, 1)
        decoder.thought_map.copy_(torch.eye(2)[None])
        decoder.log_scale.fill_(math.log(2))
        decoder.centre.running_mean.copy_(torch.tensor([1.0, 2.0]))
        decoder.centre.running_var.copy_(torch.tensor([4.0, 1.0]))  # (3 - 1) / 2 and (4 - 2) / 1, over sqrt(2)
    decoder.eval()
    thought = thought_of(factors=[[[3, 0]]], thought=[[0, 4]], gates=[[1.0]])
    queries = decoder(thought, torch.ones(1, 1, 1), torch.tensor([[[1.0, 2.0]]]), LAST)
    expected = torch.tensor([[[2 * (1 + 0.5**0.5), 2 * (3 + 2**0.5)]]])  # 2 ((1, 2) + (0, 1) + (1, 2) / sqrt(2))
    torch.testing.assert_close(queries, expected, atol=1e-4, rtol=1e-4)


def test_dropout_spares_the_items_themselves():
    decoder = CatalogDecoder(width=2, embedding_size=2, n_factors=1, dropout=0.9).train()
    thought = thought_of(factors=[[[1, 0]]], thought=[[0, 1]], gates=[[1.0]])
    queries = decoder(thought, torch.ones(1, 1, 1), torch.tensor([[[1.0, 2.0]]]), LAST)
    torch.testing.assert_close(queries, torch.tensor([[[12.0, 24.0]]]))


def test_what_all_users_share_does_not_count():
    decoder = CatalogDecoder(width=2, embedding_size=2, n_factors=1)
    with torch.no_grad():
        decoder.thought_map.copy_(torch.eye(2)[None])
    users = torch.tensor([[1.0, 2], [3, -1], [0, 1], [2, 2]])
    attention, vectors = torch.ones(4, 1, 1), torch.zeros(4, 1, 2)

    def queries(shared):
        thought = Thought(users + shared, torch.zeros(4, 1, 2), torch.ones(4, 1), attention)
        return decoder(thought, attention, vectors, LAST)

    torch.testing.assert_close(queries(0.0), queries(50.0), atol=1e-4, rtol=1e-4)


def test_a_batch_of_one_user_can_be_trained_on():
    decoder = CatalogDecoder(width=2, embedding_size=2, n_factors=1).train()
    thought = thought_of(factors=[[[1, 0]]], thought=[[0, 1]], gates=[[1.0]])
    assert decoder(thought, torch.ones(1, 1, 1), torch.ones(1, 1, 2), LAST).isfinite().all()


def test_the_trunks_own_prediction_is_added_in_shares_of_the_gates():
    decoder = CatalogDecoder(width=2, embedding_size=2, n_factors=2)
    thought = thought_of(factors=[[[1, 2], [4, 5]]], thought=[[1, 1]], gates=[[0.25, 0.75]])
    attention, vectors = torch.full((1, 2, 1), 1.0), torch.tensor([[[2.0, 0]]])
    before = decoder(thought, attention, vectors, LAST)
    decoder.set_next_item_head(NextItemHead(torch.tensor([[2.0, 0], [0, -2]]), torch.tensor(3.0)), 0.5)
    added = torch.tensor([3.0, -4.0]) / 2**0.5 + 1.5 * torch.tensor([2.0, 0])  # of (3, 4), and of the last item (2, 0)
    after = decoder(thought, attention, vectors, LAST)
    torch.testing.assert_close(after - before, torch.stack([0.25 * added, 0.75 * added])[None])
