import json
import shutil

import pytest
import torch

from flr_model.errors import ArtifactError, ConfigError
from flr_model.nn.backbone import Trunk, load_backbone
from tests.builders import WIDTH, write_backbone

BATCH, POSITIONS = 2, 6


@pytest.fixture(scope="module")
def trunk(tiny_backbone):
    return Trunk(load_backbone(str(tiny_backbone)).lm.eval().requires_grad_(False))


@pytest.fixture
def embeddings():
    return torch.randn(BATCH, POSITIONS, WIDTH, generator=torch.Generator().manual_seed(0))


ALL = torch.ones(BATCH, POSITIONS, dtype=torch.long)


def test_states_are_those_of_transformers_without_padding(trunk, embeddings):
    expected = trunk.lm(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    torch.testing.assert_close(trunk(embeddings, ALL)[0], expected)


def test_states_are_those_of_transformers_with_padding_on_the_left(trunk, embeddings):
    mask = ALL.clone()
    mask[1, :2] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    expected = trunk.lm(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False)
    real = mask.bool()
    torch.testing.assert_close(trunk(embeddings, mask)[0][real], expected.last_hidden_state[real])


def test_padding_on_the_left_does_not_change_states(trunk, embeddings):
    noise = 10 * torch.randn(BATCH, 3, WIDTH)
    padded, _ = trunk(torch.cat([noise, embeddings], 1), torch.nn.functional.pad(ALL, (3, 0)))
    torch.testing.assert_close(padded[:, 3:], trunk(embeddings, ALL)[0])
    assert padded.isfinite().all()


def test_later_positions_do_not_change_earlier_states(trunk, embeddings):
    changed = embeddings.clone()
    changed[:, 3] += 1
    before, after = trunk(embeddings, ALL)[0], trunk(changed, ALL)[0]
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert ((after[:, 3:] - before[:, 3:]).abs().amax(-1) > 1e-3).all()


@pytest.mark.parametrize("padding", [0, 2])
def test_going_on_from_the_cache_equals_one_full_pass(trunk, embeddings, padding):
    mask = ALL.clone()
    mask[0, :padding] = 0
    full, _ = trunk(embeddings, mask)
    _, past = trunk(embeddings[:, :4], mask[:, :4], keep=True)
    fifth, past = trunk(embeddings[:, 4:5], mask[:, :5], past, keep=True)
    sixth, nothing = trunk(embeddings[:, 5:], mask, past)
    torch.testing.assert_close(torch.cat([fifth, sixth], 1), full[:, 4:])
    assert nothing is None


def test_tokens_and_their_embeddings_are_read_alike(trunk):
    ids = torch.tensor([[5, 9, 7]])
    expected = trunk.lm(input_ids=ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(trunk(trunk.embed(ids), torch.ones_like(ids))[0], expected)


def test_the_first_layers_can_be_kept_alone(tiny_backbone):
    whole, one = load_backbone(str(tiny_backbone)).lm, load_backbone(str(tiny_backbone), layers=1).lm
    assert (len(whole.layers), len(one.layers)) == (2, 1)
    for name, weight in one.state_dict().items():
        torch.testing.assert_close(weight, whole.state_dict()[name], rtol=0, atol=0)


def test_more_layers_than_there_are_is_an_error(tiny_backbone):
    with pytest.raises(ConfigError, match="--layers is 3, but the backbone has 2"):
        load_backbone(str(tiny_backbone), layers=3)


def test_saved_and_loaded_it_is_the_same(tiny_backbone, tmp_path):
    backbone = load_backbone(str(tiny_backbone), layers=1)
    backbone.save(tmp_path / "copy")
    copy = load_backbone(str(tmp_path / "copy"))
    assert copy.tokenizer_json.read_bytes() == backbone.tokenizer_json.read_bytes()
    weights = copy.lm.state_dict()
    assert weights.keys() == backbone.lm.state_dict().keys()
    for name, weight in backbone.lm.state_dict().items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=0)


def test_a_backbone_that_is_not_there_is_an_error_that_names_what_can_be_fetched(tmp_path, no_network):
    with pytest.raises(ArtifactError, match="cannot load the backbone") as caught:
        load_backbone(str(tmp_path / "nowhere"))
    assert "smollm2-135m" in caught.value.hint


def test_a_backbone_whose_files_do_not_fit_together_is_named(tiny_backbone, tmp_path):
    folder = shutil.copytree(tiny_backbone, tmp_path / "lm")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    with pytest.raises(ArtifactError, match=r"cannot load the backbone '.*lm'"):
        load_backbone(str(folder))


def test_loading_a_folder_needs_no_network(tiny_backbone, no_network):
    assert load_backbone(str(tiny_backbone)).lm.config.hidden_size == WIDTH


def test_code_that_comes_with_a_backbone_is_not_run(tmp_path, no_network):
    folder = write_backbone(tmp_path / "foreign", layers=1)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "foreign", "auto_map": {"AutoConfig": "c.Foreign", "AutoModel": "m.Foreign"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "c.py").write_text("raise SystemExit('this must not run')\n")
    with pytest.raises(ArtifactError, match="cannot load the backbone"):
        load_backbone(str(folder))


def test_reading_by_length_gives_the_states_and_the_cache_of_reading_all_at_once(trunk):
    length = torch.tensor([3, 0, 9, 1, 2, 2, 7, 9, 4, 1, 1, 6])
    mask = (torch.arange(10) >= 10 - length[:, None]).long()
    embeddings = torch.randn(len(length), 10, WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states, past = trunk(embeddings, mask, keep=True)
        grouped, cache = trunk.read_by_length(embeddings, mask, keep=True)
    torch.testing.assert_close(grouped[mask > 0], states[mask > 0])
    assert len(cache) == len(past)
    for layer, expected in zip(cache, past, strict=True):
        for part, whole in zip(layer, expected, strict=True):
            torch.testing.assert_close(part.transpose(1, 2)[mask > 0], whole.transpose(1, 2)[mask > 0])
    assert grouped[0, :4].eq(0).all()  # padding is not read
