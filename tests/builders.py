"""Small inputs for the tests, built in memory: a backbone, raw files with structure to learn, datasets, a run."""

import csv
import json
from pathlib import Path

import numpy as np

from flr_model.artifacts import MANIFEST, Manifest
from flr_model.config import ModelConfig, PrepareConfig, TrainConfig
from flr_model.data.catalog import Catalog
from flr_model.data.dataset import SPLITS, write_rows
from flr_model.data.histories import HistoryRows
from flr_model.data.prepare import Sources, prepare
from flr_model.ranking.evidence import Evidence

SHELVES = ("jazz", "opera", "metal", "folk", "techno", "choir")
WORDS = ("red", "blue", "green", "white", "black", "gold", "silver", "amber", "violet", "grey")
TITLES = [f"{word} {shelf} nights" for shelf in SHELVES for word in WORDS]
WIDTH = 32


def write_backbone(folder: Path, *, layers: int = 2, seed: int = 0) -> Path:
    """A random causal LM of the Llama family with a byte-level tokenizer; no bytes are unknown to it."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TITLES, trainer)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,  # large enough that attention and position matter in an untrained model
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        lm = LlamaForCausalLM(config)
    lm.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write_sentence_encoder(folder: Path, *, seed: int = 0) -> Path:
    """A random sentence encoder of the BERT family, with modules.json and the pooling of sentence-transformers."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel

    from flr_model.nn.pooling import Pooling

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(TITLES, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        lm = BertModel(config)
    lm.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    Pooling().write(folder)
    return folder


def catalog_of(titles: list[str]) -> Catalog:
    """Items i0, i1, ... with these titles."""
    return Catalog(np.asarray([f"i{n}" for n in range(len(titles))], object), np.asarray(titles, object))


def write_raw_files(folder: Path, *, users: int = 120, seed: int = 0) -> Path:
    """interactions.csv and items.csv: users mostly take the next title of their shelf, in the order of its words."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("item_id", "title"), *((f"i{n}", title) for n, title in enumerate(TITLES))])
    events = []
    for user in range(users):
        item, clock = int(rng.integers(len(TITLES))), float(rng.uniform(0, 100))
        for _ in range(int(rng.integers(6, 12))):
            events.append((f"u{user}", f"i{item}", 1_600_000_000 + int(clock * 86_400)))
            clock += rng.exponential(3)
            shelf, place = divmod(item, len(WORDS))
            onward = shelf * len(WORDS) + (place + 1) % len(WORDS)
            item = onward if rng.random() < 0.85 else int(rng.integers(len(TITLES)))
    with (folder / "interactions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("user_id", "item_id", "timestamp"), *sorted(events, key=lambda e: e[2])])
    return folder


def prepare_dataset(raw: Path, out: Path) -> Path:
    """The dataset folder of `write_raw_files`, split by time."""
    prepare(Sources(interactions=raw / "interactions.csv", items=raw / "items.csv"), out, PrepareConfig())
    return out


def write_dataset(folder: Path, catalog: Catalog, splits: dict[str, HistoryRows]) -> Path:
    """A dataset folder of given rows; a split that is not given repeats the validation rows."""
    folder.mkdir(parents=True)
    catalog.write(folder / "items.parquet")
    write_rows(folder, {split: splits.get(split, splits["valid"]) for split in SPLITS})
    Manifest("dataset").write(folder)
    return folder


def reseal(folder: Path, **changes: object) -> None:
    """Change fields of a folder's manifest, and let it list the files as they are now."""
    body = json.loads((folder / MANIFEST).read_text())
    fields = {name: body[name] for name in ("kind", "settings", "content", "source")}
    Manifest(**{**fields, **changes}).write(folder)


def tiny_model(backbone: Path, **changes: object) -> ModelConfig:
    """A model that trains in seconds."""
    shape = {"layers": 0, "n_factors": 2, "embedding_size": 16, "max_tokens": 96, "title_tokens": 16}
    shape["item_readers"] = "backbone"
    return ModelConfig(backbone=str(backbone), **{**shape, **changes})


def tiny_train(**changes: object) -> TrainConfig:
    """A training of a few steps, whose item vectors stay those of the titles."""
    usual = {"epochs": 2, "batch_size": 64, "warmup_steps": 2, "learning_rate": 5e-3, "residual_learning_rate": 0.0}
    return TrainConfig(**{**usual, "title_precision": "fp32", **changes})


def no_evidence(n_items: int, n_factors: int = 1) -> Evidence:
    """Evidence of items that nobody bought together."""
    return Evidence(
        indptr=np.zeros(n_items + 1, np.int64),
        neighbour=np.zeros(0, np.int64),
        value=np.zeros((0, n_factors), np.float32),
        weight=np.ones(n_factors, np.float32),
        scale=np.ones(n_factors, np.float32),
        seen=0.0,
        lag_bounds=np.zeros(1, np.int64),
    )


def rows_of(sequences: dict[str, list[tuple[int, int]]], *, max_history: int = 10) -> HistoryRows:
    """A row for every (item, time) of a user but the first, its history everything before; users one after another."""
    rows = [
        (user, events[max(0, at - max_history) : at], events[at])
        for user, events in sequences.items()
        for at in range(1, len(events))
    ]
    return HistoryRows.from_lists(
        [[item for item, _ in history] for _, history, _ in rows],
        user_id=[user for user, _, _ in rows],
        times=[[time for _, time in history] for _, history, _ in rows],
        target=[item for _, _, (item, _) in rows],
        target_time=[time for _, _, (_, time) in rows],
    )
