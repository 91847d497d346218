import pytest

from flr_model.training.setup import set_up
from tests.builders import tiny_model, tiny_train


@pytest.mark.parametrize(("title_tokens", "said"), [(2, True), (48, False)])
def test_titles_that_are_cut_are_counted(tiny_dataset, tiny_backbone, caplog, title_tokens, said):
    set_up(tiny_dataset, tiny_model(tiny_backbone, title_tokens=title_tokens), tiny_train())
    assert ("60 titles longer than 2 tokens of backbone" in caplog.text) == said
