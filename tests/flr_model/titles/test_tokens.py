import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from flr_model.data.histories import PAD
from flr_model.errors import ArtifactError
from flr_model.titles.tokens import TextHistories, TitleTokenizer


@pytest.fixture
def path(tmp_path):
    """One token per byte; behind them a special token, and an added one that does not call itself special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@pytest.fixture
def tokenizer(path):
    return TitleTokenizer(path, title_tokens=20)


@pytest.mark.parametrize("title", ["<|im_end|>", "a<|im_end|>b", "<tool>", "x <tool>", "<|im_end|><tool>"])
def test_control_tokens_inside_a_title_are_plain_characters(tokenizer, path, title):
    plain = Tokenizer.from_file(str(path))
    assert max(plain.encode(title).ids) >= 256  # the library's default would let them through
    (tokens,) = tokenizer.encode([title])
    assert tokens.max() < 256
    assert plain.decode(tokens.tolist()) == title


def test_title_is_cut_to_its_first_tokens(path):
    whole, cut = (TitleTokenizer(path, title_tokens=n).encode(["abcdef"])[0] for n in (20, 4))
    assert len(whole) == 6
    assert cut.tolist() == whole[:4].tolist()


def test_empty_title_has_one_token(tokenizer):
    blank, space = tokenizer.encode(["", " "])
    assert len(blank) == 1
    assert blank.tolist() == space.tolist()


def test_lone_surrogate_does_not_fail(tokenizer):
    assert tokenizer.encode(["a\ud800"])[0].tolist() == tokenizer.encode(["a?"])[0].tolist()


def test_padded_titles_end_in_padding(tokenizer):
    input_ids, mask = tokenizer.padded(["abc", "a"])
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert input_ids[1].tolist() == [input_ids[0, 0], 0, 0]
    assert input_ids.dtype == mask.dtype == np.int64


def test_batches_hold_every_title_once_within_the_places(tokenizer):
    titles = ["abcd", "a", "abc", "ab", "a", "abcdefghijkl"]
    batches = list(tokenizer.batches(titles, 8))
    assert sorted(i for batch in batches for i in batch.which.tolist()) == list(range(6))
    assert [batch.input_ids.shape for batch in batches] == [(3, 2), (2, 4), (1, 12)]
    for batch in batches:
        for row, title in enumerate(batch.which):
            assert batch.attention_mask[row].sum() == len(titles[title])


def test_file_that_is_no_tokenizer_is_an_artifact_error(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(ArtifactError, match="not a usable tokenizer"):
        TitleTokenizer(tmp_path / "tokenizer.json", title_tokens=4)


TOKENS = [np.asarray(ids) for ids in ([1, 2], [3], [4, 5, 6])]
SEPARATOR = np.asarray([9])


def test_history_is_written_oldest_first_with_separators_that_belong_to_their_item():
    batch = TextHistories(TOKENS, SEPARATOR, 10).encode(np.asarray([[PAD, 0, 1], [PAD, PAD, 2]]))
    assert batch.input_ids.tolist() == [[1, 2, 9, 3, 9], [0, 4, 5, 6, 9]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [0, 1, 1, 1, 1]]
    assert batch.token_slot.tolist() == [[1, 1, 1, 2, 2], [PAD, 2, 2, 2, 2]]


def test_oldest_items_are_dropped_whole_when_the_text_is_too_long():
    # 2+1 + 1+1 + 3+1 tokens: seven hold the last two items, five only the last
    histories = np.asarray([[0, 1, 2]])
    assert TextHistories(TOKENS, SEPARATOR, 9).encode(histories).input_ids.tolist() == [[1, 2, 9, 3, 9, 4, 5, 6, 9]]
    assert TextHistories(TOKENS, SEPARATOR, 8).encode(histories).input_ids.tolist() == [[3, 9, 4, 5, 6, 9]]
    assert TextHistories(TOKENS, SEPARATOR, 5).encode(histories).input_ids.tolist() == [[4, 5, 6, 9]]


def test_items_older_than_a_dropped_one_are_dropped_too():
    # oldest first: 1 token, 3 tokens, 2 tokens; four places hold the newest, not the middle one, so not the oldest
    batch = TextHistories(TOKENS, SEPARATOR, 5).encode(np.asarray([[1, 2, 0]]))
    assert batch.token_slot.tolist() == [[2, 2, 2]]


def test_newest_item_is_cut_when_it_is_too_long_alone():
    batch = TextHistories(TOKENS, SEPARATOR, 3).encode(np.asarray([[0, 2]]))
    assert batch.input_ids.tolist() == [[4, 5, 9]]
    assert batch.token_slot.tolist() == [[1, 1, 1]]


def test_empty_histories_are_all_padding():
    batch = TextHistories(TOKENS, SEPARATOR, 8).encode(np.full((2, 3), PAD))
    assert batch.attention_mask.tolist() == [[0], [0]]
    assert batch.token_slot.tolist() == [[PAD], [PAD]]


def test_encoding_agrees_with_writing_each_row_by_hand():
    generator = np.random.default_rng(0)
    tokens = [generator.integers(10, 99, generator.integers(1, 6)) for _ in range(30)]
    histories = generator.integers(0, 30, (50, 7))
    for row, empty in enumerate(generator.integers(0, 8, 50)):
        histories[row, :empty] = PAD
    batch = TextHistories(tokens, SEPARATOR, 15).encode(histories)
    for row, history in enumerate(histories):
        text: list[int] = []
        for item in history[history != PAD][::-1]:
            if len(text) + len(tokens[item]) + 1 > 15:
                break
            text = [*tokens[item], 9, *text]
        assert batch.input_ids[row, batch.attention_mask[row] == 1].tolist() == text
