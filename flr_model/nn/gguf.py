"""From a quantised GGUF file to a transformers folder with full-precision safetensors and a fast tokenizer."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

CONTROL = 3
"""GGUF's type of a control token."""

SPLITTERS = {
    "smollm": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
}
"""How text is cut before the merges, by GGUF's ``tokenizer.ggml.pre``."""


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Dequantise a causal LM to float32 and save it with its tokenizer.

    Args:
        gguf: the GGUF file, of an architecture that transformers can read, with a byte-level BPE tokenizer.
        folder: an existing folder that receives config.json, model.safetensors and the tokenizer's files.

    Raises:
        ValueError: if the tokenizer is of another kind.
    """
    with _quiet():
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        model.save_pretrained(folder)
    read_tokenizer(gguf).save_pretrained(folder)


def read_tokenizer(gguf: Path) -> PreTrainedTokenizerFast:
    """Build the tokenizer that a GGUF file describes.

    transformers' own conversion drops what the file says of the start token (none here), the end and padding tokens and
    the splitting of digits, so it is not used.

    Raises:
        ValueError: if it is no byte-level BPE that is known here.
    """
    reader = GGUFReader(gguf)

    def field(name: str) -> Any:
        found = reader.get_field(name)
        return None if found is None else found.contents()

    kind = field("tokenizer.ggml.model"), field("tokenizer.ggml.pre")
    if kind[0] != "gpt2" or kind[1] not in SPLITTERS or field("tokenizer.ggml.add_bos_token"):
        raise ValueError(f"cannot convert a tokenizer of the kind {kind}")
    words: list[str] = field("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(BPE(vocab={word: index for index, word in enumerate(words)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(SPLITTERS[kind[1]])
    tokenizer.decoder = decoders.ByteLevel()
    controls = [word for word, type_ in zip(words, field("tokenizer.ggml.token_type"), strict=True) if type_ == CONTROL]
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in controls])
    special = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    index_of = {role: field(f"tokenizer.ggml.{name}_token_id") for role, name in special.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=field("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        **{f"{role}_token": words[index] for role, index in index_of.items() if index is not None},
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back transformers' warnings and progress bars; errors still come as exceptions."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        # The bar over the tensors is tqdm's own, which no setting of transformers reaches; it looks up sys.stderr.
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
