import pytest

gguf = pytest.importorskip("gguf")
pytest.importorskip("transformers")

from flr_model.nn.gguf import read_tokenizer  # noqa: E402

WORDS = ["<|end|>", "<|start|>", "a", "b", "1", "2", "Ġ", "ab", "ĠĠ"]
"""Ġ is how byte-level BPE spells a space."""


@pytest.fixture
def write(tmp_path):
    def write(pre="smollm", bos=False):
        path = tmp_path / "tiny.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(WORDS)
        writer.add_token_types([3, 3] + [1] * (len(WORDS) - 2))
        writer.add_token_merges(["a b", "Ġ Ġ"])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(0)
        writer.add_pad_token_id(0)
        writer.add_add_bos_token(bos)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return path

    return write


def test_text_is_split_as_the_file_says_and_gets_no_start_token(write):
    # Digits are split off before spaces are, so both spaces stay together.
    ids = read_tokenizer(write())("ab  12")["input_ids"]
    assert [WORDS[index] for index in ids] == ["ab", "ĠĠ", "1", "2"]


def test_decoding_gives_the_text_back(write):
    tokenizer = read_tokenizer(write())
    assert tokenizer.decode(tokenizer("ab  12 b")["input_ids"]) == "ab  12 b"


def test_special_tokens_have_the_roles_of_the_file(write):
    tokenizer = read_tokenizer(write())
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 0, 0)
    assert tokenizer("<|end|>")["input_ids"] == [0]


@pytest.mark.parametrize("kind", [{"pre": "unheard-of"}, {"bos": True}])
def test_another_kind_of_tokenizer_is_refused(write, kind):
    with pytest.raises(ValueError, match="cannot convert a tokenizer"):
        read_tokenizer(write(**kind))
