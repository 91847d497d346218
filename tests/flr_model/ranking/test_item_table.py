import numpy as np

from flr_model.ranking.item_table import ItemTable
from flr_model.ranking.lags import PaddedHistories
from flr_model.titles.tokens import TextHistories

VECTORS = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
HISTORIES = PaddedHistories(np.array([[-1, 1], [0, 1]]), np.array([[0, 0], [1, 0]]))


def test_vectors_are_looked_up_and_padding_is_zero():
    inputs = ItemTable(VECTORS).inputs(HISTORIES)
    assert inputs["item_vectors"].tolist() == [[[0, 0], [3, 4]], [[1, 2], [3, 4]]]
    assert inputs["history_mask"].tolist() == [[0, 1], [1, 1]]
    assert inputs["history_lag"].tolist() == [[0, 0], [1, 0]]
    assert inputs.keys() == {"item_vectors", "history_mask", "history_lag"}
    assert VECTORS.tolist() == [[1, 2], [3, 4]]


def test_text_adds_the_tokens_of_the_titles():
    text = TextHistories([np.array([7]), np.array([8, 9])], np.array([1]), 10)
    inputs = ItemTable(VECTORS, text.encode).inputs(HISTORIES)
    assert inputs["input_ids"].tolist() == [[0, 0, 8, 9, 1], [7, 1, 8, 9, 1]]
    assert inputs["token_slot"].tolist() == [[-1, -1, 1, 1, 1], [0, 0, 1, 1, 1]]
