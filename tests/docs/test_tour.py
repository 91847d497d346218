"""The commands of docs/tour.md are run in order, on a small shop and a tiny backbone."""

import csv
import re
import shlex
from collections import Counter, defaultdict
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from flr_cli.app import main
from flr_model.config_io import dump_toml
from flr_model.data.dataset import Dataset
from tests.builders import tiny_model, tiny_train
from tests.docs.shop import BROKEN, products, write_shop

TOUR = (Path(__file__).parents[2] / "docs" / "tour.md").read_text(encoding="utf-8")
NEEDS_NETWORK = {"fetch"}
TINY = {"train": ["--config", "tiny.toml"], "update": ["--max-loss", "1"]}
"""What a command gets so that it is quick, and does not depend on how well a tiny model learns."""


def commands():
    lines = re.findall(r"^    flr (.+)$", TOUR, re.MULTILINE)
    return [words for line in lines if (words := shlex.split(line))[0] not in NEEDS_NETWORK]


@pytest.fixture(scope="module")
def walk(tmp_path_factory, tiny_backbone):
    """The folder in which the tour was walked, and what each command printed."""
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder, customers=60)
    (folder / "tiny.toml").write_text(dump_toml([tiny_model(tiny_backbone), tiny_train(epochs=1)]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in commands():
            assert main([*words, *TINY.get(words[0], [])]) == 0, words
    return folder


def rows(path, **settings):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, **settings))


def test_a_dataset_takes_two_calls_at_most_and_everything_else_one():
    calls = Counter(words[0] for words in commands())
    assert calls.pop("prepare") <= 2
    assert {"train", "eval", "report", "export", "score", "explain", "update"} == calls.keys()
    assert set(calls.values()) == {1}


def test_the_broken_rows_are_listed_and_the_rest_is_understood(walk):
    left_out = {int(row["line"]): row["reason"] for row in rows(walk / "data" / "rejects.csv")}
    wrong = sorted(BROKEN)[:3]  # the fourth has another name for its product, which is no fault
    assert sorted(left_out) == [number + 1 for number in wrong]
    catalog = Dataset.open(walk / "data").catalog
    known = {sku: (name, f"{name}. {brand}. {category}") for sku, name, brand, category, _ in products()}
    assert known == {
        item: (title, text) for item, title, text in zip(catalog.item_ids, catalog.titles, catalog.texts, strict=True)
    }


def test_everybody_is_recommended_something_with_a_reason(walk):
    recs, orders = rows(walk / "recs.csv"), rows(walk / "monday.csv", delimiter=";")
    broken = {line.split(";")[0] for line in BROKEN.values()}
    assert {row["user_id"] for row in recs} >= {row["customer_no"] for row in orders} - broken
    category = {sku: kind for sku, _, _, kind, _ in products()}
    lists, bought = defaultdict(list), defaultdict(set)
    for row in orders:
        bought[row["customer_no"]].add(row["sku"])
    for row in recs:
        lists[row["user_id"]].append(row["item_id"])
    for user, items in lists.items():
        assert len(items) == 3
        assert not bought[user] & set(items)
        assert max(Counter(category[item] for item in items).values()) <= 2
    newcomers = {row["user_id"] for row in recs if row["source"] == "popular"}
    assert newcomers == {"20001", "20002"}
    reasons = [row["because_item_id"] in bought[row["user_id"]] for row in recs if row["source"] == "model"]
    assert sum(reasons) > 0.9 * len(reasons)


def test_the_file_of_the_page_is_the_file_of_the_test(walk):
    assert "    " + (walk / "orders.csv").read_text(encoding="utf-8").splitlines()[0] in TOUR.splitlines()
    header = ",".join(rows(walk / "recs.csv")[0])
    shown = re.search(r"^    (user_id,rank.*)$", TOUR, re.MULTILINE)[1]
    assert re.sub(r"factor_\d,", "", shown) == re.sub(r"factor_\d,", "", header)
