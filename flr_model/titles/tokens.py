"""Titles as tokens: one tokenisation for torch and ONNX, and histories written as text.

Titles are data. Whatever a title contains, it never becomes a control token.

Shapes: n titles, B users, L history columns, S tokens of the longest row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from flr_model.config import BACKBONE, ModelConfig
from flr_model.data.histories import PAD
from flr_model.errors import ArtifactError

Ints = npt.NDArray[np.int64]

SEPARATOR = "\n"
"""Written behind every title of a history."""


class TitleBatch(NamedTuple):
    """Titles of similar length: (b,) which ones, then (b, S) tokens and mask, padded on the right."""

    which: Ints
    input_ids: Ints
    attention_mask: Ints


class TextBatch(NamedTuple):
    """Histories as text, padded on the left.

    input_ids, attention_mask: (B, S). token_slot: (B, S) the history column that each token belongs to, PAD on padding.
    """

    input_ids: Ints
    attention_mask: Ints
    token_slot: Ints


class TitleTokenizer:
    """Encode titles with a ``tokenizer.json``.

    Args:
        tokenizer_json: file of the `tokenizers` library.
        title_tokens: tokens kept of one title, the first ones.
        prompt: text with one ``{title}``, for `padded` and `batches`.
        special: around the prompt stand the tokenizer's own special tokens, as sentence encoders expect it.

    Raises:
        ArtifactError: if the file cannot be read as a tokenizer.
    """

    def __init__(
        self, tokenizer_json: Path, *, title_tokens: int, prompt: str = "{title}", special: bool = False
    ) -> None:
        self._tokenizer = _plain_tokenizer(tokenizer_json)
        self.fingerprint = hashlib.sha256(tokenizer_json.read_bytes()).hexdigest()
        self.title_tokens = title_tokens
        self.prompt = prompt
        self.prefix, self.suffix = self._tokens(prompt.split("{title}"))
        if special:
            before, after = self._special()
            self.prefix, self.suffix = np.concatenate([before, self.prefix]), np.concatenate([self.suffix, after])
        self.separator = self._tokens([SEPARATOR])[0]
        self._blank = next((tokens[:1] for tokens in self._tokens([" ", "?", "a", "0"]) if len(tokens)), _ZERO)

    def encode(self, titles: Sequence[str]) -> list[Ints]:
        """Return the tokens of each title: between one and ``title_tokens`` of them."""
        return [tokens[: self.title_tokens] if len(tokens) else self._blank for tokens in self._tokens(list(titles))]

    def n_cut(self, titles: Sequence[str]) -> int:
        """Count the titles that have more than ``title_tokens`` tokens."""
        return sum(len(tokens) > self.title_tokens for tokens in self._tokens(list(titles)))

    def around(self, template: str) -> tuple[Ints, Ints]:
        """Return the tokens before and behind the one ``{history}`` of a template."""
        before, after = self._tokens(template.split("{history}"))
        return before, after

    def padded(self, titles: Sequence[str]) -> tuple[Ints, Ints]:
        """Return tokens and mask of n titles in the prompt, (n, S) each, padded on the right."""
        return _pad_right(self._prompted(titles))

    def _prompted(self, titles: Sequence[str]) -> list[Ints]:
        return [np.concatenate([self.prefix, title, self.suffix]) for title in self.encode(titles)]

    def batches(self, titles: Sequence[str], batch_tokens: int) -> Iterator[TitleBatch]:
        """Give all titles in the prompt, shortest first, in batches of at most ``batch_tokens`` places."""
        tokens = self._prompted(titles)
        lengths = np.asarray([len(title) for title in tokens], np.int64)
        order = np.argsort(lengths, kind="stable")
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= batch_tokens:
                stop += 1
            which = order[start:stop]
            yield TitleBatch(which, *_pad_right([tokens[i] for i in which]))
            start = stop

    def _special(self) -> tuple[Ints, Ints]:
        """Return the special tokens that the tokenizer puts before and behind a text."""
        whole = self._tokenizer.encode("a", add_special_tokens=True)
        ids, special = np.asarray(whole.ids, np.int64), np.asarray(whole.special_tokens_mask, bool)
        text = np.flatnonzero(~special)
        start, stop = (text[0], text[-1] + 1) if len(text) else (len(ids), len(ids))
        return ids[:start], ids[stop:]

    def _tokens(self, titles: list[str]) -> list[Ints]:
        # A lone surrogate, legal in JSON, is no valid text for the tokenizer.
        clean = [title.encode("utf-8", "replace").decode("utf-8") for title in titles]
        return [np.asarray(e.ids, np.int64) for e in self._tokenizer.encode_batch(clean, add_special_tokens=False)]


def reader_tokenizer(tokenizer_json: Path, reader: str, config: ModelConfig) -> TitleTokenizer:
    """Return the tokenizer of titles of a reader: the backbone has a prompt, a sentence encoder its special tokens.

    Raises:
        ArtifactError: if the file cannot be read as a tokenizer.
    """
    if reader == BACKBONE:
        return TitleTokenizer(tokenizer_json, title_tokens=config.title_tokens, prompt=config.title_prompt)
    return TitleTokenizer(tokenizer_json, title_tokens=config.title_tokens, special=True)


class TextHistories:
    """Write histories as text: the titles oldest first, each followed by the separator.

    Args:
        tokens: tokens of each title, in order of the positions that `encode` is given.
        separator: tokens behind each title; they belong to its item.
        max_tokens: S at most; whole items are left out, oldest first, and a title that alone is longer is cut.
    """

    def __init__(self, tokens: Sequence[Ints], separator: Ints, max_tokens: int) -> None:
        room = max(max_tokens - len(separator), 1)
        self._max_tokens = max_tokens
        # One more entry of length 0 at the end: PAD is -1, so padding finds it.
        self._lengths = np.asarray([*(min(len(title), room) + len(separator) for title in tokens), 0], np.int64)
        self._starts = np.cumsum(self._lengths) - self._lengths
        parts = [part for title in tokens for part in (title[:room], separator)]
        self._flat = np.concatenate([*parts, _NONE]).astype(np.int64)

    def encode(self, histories: Ints) -> TextBatch:
        """Write B histories, given as (B, L) positions padded on the left with PAD."""
        lengths = self._lengths[histories]
        lengths[np.cumsum(lengths[:, ::-1], axis=1)[:, ::-1] > self._max_tokens] = 0
        row, slot = np.nonzero(lengths)
        length = lengths[row, slot]
        totals = lengths.sum(axis=1)
        width = int(totals.max(initial=1))
        before = np.cumsum(length) - length
        within = np.arange(length.sum()) - np.repeat(before, length)
        source = np.repeat(self._starts[histories[row, slot]], length) + within
        # Rows end at the last column, so a token's column counts back from the end of its row.
        row_end = np.cumsum(totals)
        token_row = np.repeat(row, length)
        column = np.arange(length.sum()) - row_end[token_row] + width
        batch = TextBatch(*(np.full((len(histories), width), fill, np.int64) for fill in (0, 0, PAD)))
        batch.input_ids[token_row, column] = self._flat[source]
        batch.attention_mask[token_row, column] = 1
        batch.token_slot[token_row, column] = np.repeat(slot, length)
        return batch


_ZERO = np.zeros(1, np.int64)
_NONE = np.zeros(0, np.int64)


def _plain_tokenizer(path: Path) -> Any:
    """Load a tokenizer that reads every added token as plain characters, whether it calls itself special or not."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        for token in description.get("added_tokens", ()):
            token["special"] = True
        tokenizer = Tokenizer.from_str(json.dumps(description))
    except Exception as error:  # the library raises plain Exception for a description that it cannot use
        raise ArtifactError(f"{path} is not a usable tokenizer: {error}", hint="make the folder again") from None
    tokenizer.encode_special_tokens = True
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _pad_right(tokens: Sequence[Ints]) -> tuple[Ints, Ints]:
    lengths = np.asarray([len(title) for title in tokens], np.int64)
    mask = np.arange(lengths.max(initial=1)) < lengths[:, None]
    input_ids = np.zeros(mask.shape, np.int64)
    input_ids[mask] = np.concatenate([*tokens, _NONE])
    return input_ids, mask.astype(np.int64)
