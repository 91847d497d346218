from dataclasses import replace

import pytest

from flr_model.assets.wheels import ASSETS
from flr_model.data.dataset import Dataset
from flr_model.errors import ArtifactError
from flr_model.training import setup
from flr_model.training.setup import set_up
from tests.builders import tiny_model, tiny_train


@pytest.mark.parametrize(("title_tokens", "said"), [(2, True), (48, False)])
def test_titles_that_are_cut_are_counted(tiny_dataset, tiny_backbone, caplog, title_tokens, said):
    set_up(tiny_dataset, tiny_model(tiny_backbone, title_tokens=title_tokens), tiny_train())
    assert ("60 titles longer than 2 tokens of backbone" in caplog.text) == said


def test_the_backbone_alone_reads_titles_where_no_sentence_encoder_was_fetched(
    tiny_dataset, tiny_backbone, tmp_path, monkeypatch, caplog
):
    """A training with a backbone of one's own asks for nothing else; what it goes without is said, and kept."""
    monkeypatch.setenv("FLR_CACHE", str(tmp_path))
    model = replace(tiny_model(tiny_backbone), item_readers=None)
    assert set_up(tiny_dataset, model, tiny_train()).recommender.config.readers == ("backbone",)
    assert "minilm was not fetched" in caplog.text
    ASSETS["minilm"].folder(tmp_path).mkdir()  # half a copy
    with pytest.raises(ArtifactError, match="minilm is not in the cache"):
        set_up(tiny_dataset, model, tiny_train())


def test_auto_counts_the_items_that_training_rows_hold(tiny_dataset, tiny_backbone, monkeypatch):
    asked = []
    monkeypatch.setattr(setup, "choose_tuning", lambda *given: asked.append(given) or "frozen")
    dataset = Dataset.open(tiny_dataset)
    few = dataset.rows("train").select(slice(0, 3))
    monkeypatch.setattr(setup, "_rows", lambda *_, **__: (few, few))
    set_up(tiny_dataset, tiny_model(tiny_backbone), tiny_train())
    ((_, n_rows, n_items, _),) = asked
    assert n_rows == 3
    assert n_items == len({*few.items.tolist(), *few.target.tolist()}) < len(dataset.catalog)
