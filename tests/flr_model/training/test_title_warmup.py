"""Titles before rows: what the backbone learns from the catalogue alone."""

from dataclasses import replace

import torch

from flr_model.config import ModelConfig, TitleConfig
from flr_model.nn.device import multiplies_bf16
from flr_model.progress import SILENT
from flr_model.training.setup import set_up
from flr_model.training.title_warmup import learn_titles
from flr_model.training.tuning import trunk_in_bf16
from tests.builders import tiny_model, tiny_train


def setup_of(tiny_dataset, tiny_backbone, **changes):
    model = replace(tiny_model(tiny_backbone), decoder="title", title=TitleConfig(guidance=0.0))
    return set_up(tiny_dataset, model, replace(tiny_train(), **changes))


@torch.no_grad()
def loss_of_titles(recommender):
    """Mean cross-entropy of all titles after their own items' vectors."""
    recommender.eval()
    every = torch.arange(len(recommender.items))
    titles = recommender.head.titles_of(every)
    return recommender.head.title_loss(recommender.model, recommender.items.unit_vectors[every], titles).item()


def test_titles_are_written_from_their_items_vectors(tiny_dataset, tiny_backbone, tmp_path):
    torch.manual_seed(0)
    setup = setup_of(tiny_dataset, tiny_backbone, title_epochs=40, backbone_learning_rate=3e-3, warmup_steps=2)
    recommender = setup.recommender
    before, reasoner = loss_of_titles(recommender), recommender.model.reasoner.value.detach().clone()
    learn_titles(recommender, replace(tiny_train(), title_epochs=40, backbone_learning_rate=3e-3), folder=tmp_path,
                 resume=False, progress=SILENT)  # fmt: skip
    after = loss_of_titles(recommender)
    assert after < 0.5 * before
    # It is the vector that says the title: with another item's, the same title is unlikely.
    every = torch.arange(len(recommender.items))
    titles = recommender.head.titles_of(every)
    with torch.no_grad():
        other = recommender.head.title_loss(
            recommender.model, recommender.items.unit_vectors[every.roll(1)], titles
        ).item()
    assert other > after + 1
    torch.testing.assert_close(recommender.model.reasoner.value.detach(), reasoner)


def test_no_pass_leaves_everything_as_it_is(tiny_dataset, tiny_backbone, tmp_path):
    setup = setup_of(tiny_dataset, tiny_backbone)
    before = {name: weight.clone() for name, weight in setup.recommender.state_dict().items()}
    learn_titles(setup.recommender, replace(tiny_train(), title_epochs=0), folder=tmp_path, resume=False,
                 progress=SILENT)  # fmt: skip
    for name, weight in setup.recommender.state_dict().items():
        torch.testing.assert_close(weight, before[name])


def test_a_backbone_that_learns_multiplies_in_bf16_where_a_cpu_can(tiny_dataset, tiny_backbone):
    assert not trunk_in_bf16("frozen", "bf16")
    assert not trunk_in_bf16("full", "fp32")
    if torch.cuda.is_available():
        return
    assert trunk_in_bf16("full", "bf16")
    assert trunk_in_bf16("full", "auto") == multiplies_bf16(torch.device("cpu"))
    trunk = setup_of(tiny_dataset, tiny_backbone).recommender.model.encoder.trunk
    embeddings, mask = trunk.embed(torch.tensor([[5, 6, 7]])), torch.ones(1, 3, dtype=torch.long)
    states = {}
    for trunk.bf16 in (False, True):
        states[trunk.bf16] = trunk(embeddings, mask)[0]
        assert states[trunk.bf16].dtype == torch.float32
    assert 0 < (states[True] - states[False]).abs().max() < 0.1


def test_auto_layers_are_few_to_read_and_all_to_write():
    assert ModelConfig().layers_read == 2
    assert ModelConfig(decoder="title").layers_read is None
    assert ModelConfig(decoder="title", layers=4).layers_read == 4
