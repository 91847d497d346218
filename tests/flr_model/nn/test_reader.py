import pytest
from torch import nn

from flr_model.nn.reader import eval_mode


def test_eval_mode_gives_back_each_modules_mode_even_after_an_error():
    learning, frozen = nn.Dropout(), nn.Dropout().eval()
    with eval_mode(learning, frozen):
        assert not learning.training
    with pytest.raises(KeyError), eval_mode(learning, frozen):
        raise KeyError
    assert learning.training
    assert not frozen.training


def test_a_catalogue_is_tokenized_once(tiny_text_run):
    from flr_model.nn.run import load_run

    recommender = load_run(tiny_text_run).recommender()
    reader, titles = recommender.reader, recommender.catalog.titles.tolist()
    table = reader.table(recommender.vectors, titles)
    assert reader.table(recommender.vectors, titles) is table
    assert reader.table(recommender.vectors.copy(), titles) is not table
