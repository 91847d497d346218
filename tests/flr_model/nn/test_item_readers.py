"""Readers of titles beside references: transformers alone, and readers side by side in one item vector."""

import json
import shutil

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertModel

from flr_model.errors import ArtifactError, ConfigError
from flr_model.nn.pooling import Pooling, pool
from flr_model.nn.run import build_item_encoder
from tests.builders import TITLES, tiny_model


@pytest.fixture(scope="module")
def config(tiny_backbone, tiny_sentence_encoder):
    return tiny_model(tiny_backbone, item_readers=f"backbone,{tiny_sentence_encoder}")


@pytest.fixture(scope="module")
def encoder(config):
    return build_item_encoder(config).requires_grad_(False)


def read(reader, titles, **options):
    states = np.zeros((len(titles), len(reader.parts), reader.width), np.float32)
    reader.read_titles(titles, keep=states.__setitem__, **options)
    return states


def fitted(encoder):
    readings = [read(reader, TITLES) for reader in encoder.readers]
    encoder.fit(readings)
    return encoder.whiten([torch.from_numpy(states) for states in readings])


def test_a_sentence_encoder_reads_with_its_own_tokens_and_the_mean_of_its_states(encoder, tiny_sentence_encoder):
    tokenizer = Tokenizer.from_file(str(tiny_sentence_encoder / "tokenizer.json"))
    lm = BertModel.from_pretrained(tiny_sentence_encoder)
    ids = tokenizer.encode(TITLES[3]).ids
    assert (ids[0], ids[-1]) == (2, 3)  # [CLS] and [SEP]
    expected = lm(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0).detach()
    np.testing.assert_allclose(read(encoder.readers[1], TITLES)[3, 0], expected, atol=1e-5)


def test_special_tokens_in_a_title_are_plain_characters(encoder):
    reader = encoder.readers[1]
    (plain,) = reader.tokenizer.encode(["[SEP] nights"])
    assert 3 not in plain.tolist()


def test_each_reader_has_its_columns_and_its_length(encoder):
    vectors = fitted(encoder)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(60))
    sizes = [len(part.scale) for part in encoder.parts()]
    assert (sum(sizes), sizes[1]) == (16, 7)  # three sevenths of 16
    half = torch.full((60,), 0.5**0.5)
    torch.testing.assert_close(vectors[:, :9].norm(dim=-1), half)
    torch.testing.assert_close(vectors[:, 9:].norm(dim=-1), half)


def test_later_titles_get_the_vectors_they_would_have_had(encoder):
    expected = fitted(encoder)
    encoder.scale.copy_(torch.linspace(0.5, 1.5, 16))
    np.testing.assert_allclose(encoder.encode_titles(TITLES[::7]), (expected * encoder.scale)[::7], atol=1e-4)
    encoder.scale.fill_(1)


@pytest.mark.parametrize("which", [0, 1])
def test_products_in_bf16_give_nearly_the_same_vectors(encoder, which):
    reader = encoder.readers[which]
    whole = torch.from_numpy(read(reader, TITLES))
    rounded = torch.from_numpy(read(reader, TITLES, dtype=torch.bfloat16))
    assert not torch.equal(whole, rounded)
    assert torch.nn.functional.cosine_similarity(whole, rounded, dim=-1).min() > 0.999
    assert all(weight.dtype == torch.float32 for weight in reader.lm.parameters())
    assert reader.fingerprint(torch.float32) != reader.fingerprint(torch.bfloat16)


def test_readers_are_told_apart_by_weights_and_pooling(config, encoder, tiny_sentence_encoder, tmp_path):
    def fingerprint(folder):
        other = build_item_encoder(tiny_model(config.backbone, item_readers=str(folder)))
        return other.readers[0].fingerprint(torch.float32)

    same, weights, pooling = (tmp_path / name for name in ("same", "weights", "pooling"))
    for copy in (same, weights, pooling):
        shutil.copytree(tiny_sentence_encoder, copy)
    lm = BertModel.from_pretrained(weights)
    with torch.no_grad():
        lm.encoder.layer[1].output.dense.bias[0] += 1e-3
    lm.save_pretrained(weights)
    Pooling("cls").write(pooling)
    own = encoder.readers[1].fingerprint(torch.float32)
    assert [fingerprint(folder) == own for folder in (same, weights, pooling)] == [True, False, False]


def test_a_reader_that_was_saved_reads_the_same(encoder, config, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for reader, folder in zip(encoder.readers, folders, strict=True):
        reader.save(folder)
    again = build_item_encoder(config, [str(folder) for folder in folders])
    for reader, other in zip(encoder.readers, again.readers, strict=True):
        np.testing.assert_array_equal(read(other, TITLES[:5]), read(reader, TITLES[:5]))


@pytest.mark.parametrize(("mode", "expected"), [("mean", [3, 4]), ("cls", [2, 3]), ("lasttoken", [4, 5])])
def test_pooling_looks_at_real_places_only(mode, expected):
    states = torch.tensor([[[9.0, 9], [2, 3], [4, 5], [9, 9]]])
    mask = torch.tensor([[False, True, True, False]])
    assert pool(states, mask, mode).tolist() == [expected]


def test_an_encoder_without_modules_is_pooled_by_the_mean(tmp_path):
    assert Pooling.read(str(tmp_path)) == Pooling("mean")


@pytest.mark.parametrize(
    ("modules", "pooling", "said"),
    [
        (["Transformer", "Dense"], {}, "not known: Dense"),
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True}, "pools by max"),
        (["Transformer", "Pooling"], {"pooling_mode_cls_token": False}, "pools by nothing"),
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}, "max and cls"),
    ],
)
def test_what_an_encoder_does_besides_is_refused(tmp_path, modules, pooling, said):
    described = [{"type": f"sentence_transformers.models.{kind}", "path": "1_Pooling"} for kind in modules]
    (tmp_path / "modules.json").write_text(json.dumps(described))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    with pytest.raises(ArtifactError, match=said):
        Pooling.read(str(tmp_path))


@pytest.mark.fault("damaged")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", r"has a modules\.json that cannot be read"),
        ("{}", r"has a modules\.json of another form"),
        ("[1]", r"has a modules\.json of another form"),
        ('[{"path": "1_Pooling"}]', r"has a modules\.json of another form"),
        ('[{"type": "Pooling", "path": "1_Pooling"}]', r"lacks 1_Pooling/config\.json, which its modules\.json names"),
        ('[{"type": "Pooling"}]', "lacks None/config"),
    ],
)
def test_damaged_modules_are_named(tmp_path, content, said):
    """Half an encoder must not be read as one that takes the mean."""
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(ArtifactError, match=said):
        Pooling.read(str(tmp_path))


def test_what_readers_cannot_do_is_said(tiny_backbone, tiny_sentence_encoder):
    alone = {"item_readers": str(tiny_sentence_encoder)}
    with pytest.raises(ConfigError, match=r"--embedding-size is 25, .*about 24 is the most"):
        build_item_encoder(tiny_model(tiny_backbone, embedding_size=25, **alone))
    with pytest.raises(ConfigError, match=r"--title-tokens is 63, but .* reads at most 62"):
        build_item_encoder(tiny_model(tiny_backbone, title_tokens=63, **alone))
    with pytest.raises(ArtifactError, match="cannot load the sentence encoder 'nowhere'"):
        build_item_encoder(tiny_model(tiny_backbone, item_readers="backbone,nowhere"))


@pytest.mark.parametrize("readers", ["", "backbone,", "backbone,backbone"])
def test_a_list_of_readers_without_sense_is_refused(tiny_backbone, readers):
    with pytest.raises(ConfigError, match="--item-readers must name each reader once"):
        tiny_model(tiny_backbone, item_readers=readers)
