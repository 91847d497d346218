"""The language model that writes titles learns, after the factors and without them."""

from dataclasses import replace

import pytest
import torch

from flr_model.config import ModelConfig, TitleConfig
from flr_model.nn.device import multiplies_bf16
from flr_model.progress import SILENT
from flr_model.training import writing
from flr_model.training.setup import set_up
from flr_model.training.tuning import trunk_in_bf16
from flr_model.training.writing import learn_to_write, rows_stage, titles_stage
from tests.builders import tiny_model, tiny_train


def setup_of(tiny_dataset, tiny_backbone, title=TitleConfig(guidance=0.0)):
    model = replace(tiny_model(tiny_backbone), decoder="title", title=title)
    return set_up(tiny_dataset, model, tiny_train())


@torch.no_grad()
def loss_of_titles(recommender, shift=0):
    """Mean cross-entropy of all titles after their own items' vectors, or after those of other items."""
    recommender.eval()
    writer, every = recommender.head.writer, torch.arange(len(recommender.items))
    vectors = recommender.items.unit_vectors[every.roll(shift)][:, None]
    titles = recommender.head.titles_of(every)
    return -writer.likelihood(writer.empty_prompt(len(every)), vectors, titles)[0].mean().item()


def write_titles(setup, folder, **changes):
    settings = replace(tiny_train(), **changes)
    stage = titles_stage(setup.recommender, settings)
    learn_to_write(stage, setup.writers, folder=folder, resume=False, progress=SILENT)


def write_rows(setup, folder, n_rows):
    settings = replace(tiny_train(), writing_rows=n_rows)
    stage = rows_stage(setup.recommender, setup.rows, settings)
    learn_to_write(stage, setup.writers, folder=folder, resume=False, progress=SILENT)


def last_step(folder):
    """The step of the newest checkpoint."""
    return max(int(path.name.removeprefix("checkpoint-")) for path in folder.glob("*/checkpoint-*"))


def test_titles_are_written_from_their_items_vectors(tiny_dataset, tiny_backbone, tmp_path):
    torch.manual_seed(0)
    setup = setup_of(tiny_dataset, tiny_backbone)
    recommender = setup.recommender
    before = loss_of_titles(recommender)
    write_titles(setup, tmp_path, title_epochs=40, backbone_learning_rate=3e-3, warmup_steps=2)
    after = loss_of_titles(recommender)
    assert after < 0.5 * before
    # It is the vector that says the title: with another item's, the same title is unlikely.
    assert loss_of_titles(recommender, shift=1) > after + 1


def test_the_writer_alone_learns(tiny_dataset, tiny_backbone, tmp_path):
    setup = setup_of(tiny_dataset, tiny_backbone)
    before = {name: weight.clone() for name, weight in setup.recommender.named_parameters()}
    write_titles(setup, tmp_path, title_epochs=1)
    write_rows(setup, tmp_path, 64)
    changed = {name for name, weight in setup.recommender.named_parameters() if (weight != before[name]).any()}
    assert "head.writer.spell.weight" in changed
    assert all(name.startswith("head.writer.") for name in changed)


def test_no_pass_over_the_titles_leaves_them_alone(tiny_dataset, tiny_backbone, tmp_path):
    write_titles(setup_of(tiny_dataset, tiny_backbone), tmp_path, title_epochs=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("asked", "steps"), [(None, 22), (100, 4), (33, 2)])
def test_rows_are_written_once_or_as_many_as_asked(tiny_dataset, tiny_backbone, tmp_path, asked, steps):
    setup = setup_of(tiny_dataset, tiny_backbone)
    assert len(setup.rows) == 701, "22 steps of 32"
    write_rows(setup, tmp_path, asked)
    assert last_step(tmp_path) == steps


def test_a_backbone_that_learns_multiplies_in_bf16_where_a_cpu_can(tiny_dataset, tiny_backbone):
    assert not trunk_in_bf16("frozen", "bf16")
    assert not trunk_in_bf16("full", "fp32")
    if torch.cuda.is_available():
        return
    assert trunk_in_bf16("full", "bf16")
    assert trunk_in_bf16("full", "auto") == multiplies_bf16(torch.device("cpu"))
    trunk = setup_of(tiny_dataset, tiny_backbone).recommender.head.writer.encoder.trunk
    embeddings, mask = trunk.embed(torch.tensor([[5, 6, 7]])), torch.ones(1, 3, dtype=torch.long)
    states = {}
    for trunk.bf16 in (False, True):
        states[trunk.bf16] = trunk(embeddings, mask)[0]
        assert states[trunk.bf16].dtype == torch.float32
    assert 0 < (states[True] - states[False]).abs().max() < 0.1


def test_of_many_rows_some_are_written_and_that_is_said(tiny_dataset, tiny_backbone, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(writing, "MOST_ROWS", 64)
    with caplog.at_level("INFO"):
        write_rows(setup_of(tiny_dataset, tiny_backbone), tmp_path, None)
    assert last_step(tmp_path) == 2
    assert "--writing-rows 64: of 701 training rows" in caplog.text


def test_few_layers_read_whatever_is_predicted():
    assert ModelConfig().layers_read == ModelConfig(decoder="title").layers_read == 2
    assert ModelConfig(decoder="title", layers=4).layers_read == 4


@pytest.mark.parametrize(("n", "layers"), [(None, 2), (1, 1)])
def test_all_layers_write_unless_fewer_are_asked_for(tiny_dataset, tiny_backbone, n, layers):
    setup = setup_of(tiny_dataset, tiny_backbone, title=TitleConfig(guidance=0.0, writer_layers=n))
    assert len(setup.recommender.head.writer.encoder.trunk.lm.layers) == layers
