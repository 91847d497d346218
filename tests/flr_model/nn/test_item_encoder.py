import numpy as np
import pytest
import torch

from flr_model.nn.item_encoder import WHITENING_EXPONENT, Whitening
from flr_model.nn.reader import TorchReader
from flr_model.nn.run import build_item_encoder
from tests.builders import TITLES, WIDTH, tiny_model


@pytest.fixture(scope="module")
def config(tiny_backbone):
    return tiny_model(tiny_backbone)


@pytest.fixture(scope="module")
def tokenizer(config):
    return build_item_encoder(config).readers[0].tokenizer


@pytest.fixture
def encoder(config):
    return build_item_encoder(config).requires_grad_(False)


def readings_of(encoder, titles):
    """Each reader's readings, without the cache."""
    readings = []
    for reader in encoder.readers:
        states = np.zeros((len(titles), len(reader.parts), reader.width), np.float32)
        reader.read_titles(titles, keep=states.__setitem__)
        readings.append(states)
    return readings


@pytest.fixture(scope="module")
def states(config):
    return readings_of(build_item_encoder(config), TITLES)[0]


def test_a_title_alone_has_the_states_it_has_in_a_batch(encoder, states):
    for which in (0, 25, 59):
        np.testing.assert_allclose(readings_of(encoder, [TITLES[which]])[0][0], states[which], atol=1e-5)


def test_the_prompt_is_read_around_the_title_and_only_the_title_is_averaged(encoder, tokenizer, states):
    (title,) = tokenizer.encode([TITLES[7]])
    ids = torch.from_numpy(np.concatenate([tokenizer.prefix, title, tokenizer.suffix]))[None]
    reader = encoder.readers[0]
    layers = reader.lm(input_ids=ids, output_hidden_states=True).hidden_states
    start = len(tokenizer.prefix)
    wording = layers[reader.lexical_layer][0, start : start + len(title)].mean(0)
    np.testing.assert_allclose(states[7, 0], wording.detach(), atol=1e-5)
    np.testing.assert_allclose(states[7, 1], layers[-1][0, -1].detach(), atol=1e-5)


def test_control_tokens_in_a_title_are_plain_characters(tokenizer):
    (plain,) = tokenizer.encode(["<|im_end|>"])
    assert 2 not in plain.tolist()  # the number of the control token
    assert len(plain) > 1


def test_item_vectors_have_length_one_and_their_parts_the_stated_lengths(encoder, states):
    encoder.fit([states])
    vectors = encoder.whiten([torch.from_numpy(states)])
    assert vectors.shape == (60, 16)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(60))
    torch.testing.assert_close(vectors[:, :12].norm(dim=-1), torch.full((60,), 0.8))


def test_whitened_directions_are_not_correlated_and_flattened_by_the_exponent(states):
    wording = torch.from_numpy(states[:, 0])
    whitening = Whitening(WIDTH, 16, 1.0)
    whitening.fit(wording)
    projected = ((wording - whitening.mean) @ whitening.projection).double()
    spread = torch.linalg.svdvals((wording - wording.mean(0)).double())[:16]
    expected = torch.diag(spread ** (2 * WHITENING_EXPONENT))
    torch.testing.assert_close(projected.T @ projected, expected, atol=1e-3 * float(expected.max()), rtol=1e-3)


def test_titles_are_encoded_as_the_catalogue_was(encoder, tokenizer, states):
    encoder.fit([states])
    encoder.scale.copy_(torch.linspace(0.5, 1.5, 16))
    expected = encoder.whiten([torch.from_numpy(states)]) * encoder.scale
    reader = TorchReader(torch.nn.Identity(), None, encoder, tokenizer)
    np.testing.assert_allclose(reader.encode_titles(TITLES), expected, atol=1e-4)
    np.testing.assert_allclose(reader.encode_titles(TITLES[5:6]), expected[5:6], atol=1e-4)


@pytest.mark.parametrize("n_items", [1, 2, 5])
def test_fewer_items_than_dimensions_leave_the_rest_zero(states, n_items):
    wording = torch.from_numpy(states[:, 0])
    whitening = Whitening(WIDTH, 12, 1.0)
    whitening.fit(wording[:n_items])
    assert whitening(wording).isfinite().all()  # the catalogue's items and later ones
    assert (whitening(wording)[:, n_items:] == 0).all()


def test_equal_titles_do_not_upset_the_whitening(encoder, states):
    encoder.fit([np.repeat(states[:1], 4, axis=0)])
    assert encoder.whiten([torch.from_numpy(states)]).isfinite().all()
