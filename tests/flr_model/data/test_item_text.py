import json

import numpy as np
import pytest

from flr_model.config import ModelConfig, PrepareConfig
from flr_model.data.catalog import Catalog, MoreOfItems
from flr_model.data.dataset import Dataset
from flr_model.data.item_text import ItemText
from flr_model.data.prepare import Sources, prepare
from flr_model.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("template", "cells", "text"),
    [
        ("{title}. {brand}. {category}", {"brand": "Acme", "category": "Toys"}, "Kite. Acme. Toys"),
        ("{title}. {brand}. {category}", {"brand": "", "category": "Toys"}, "Kite. Toys"),
        ("{title}. {brand}. {category}.", {"brand": "Acme", "category": ""}, "Kite. Acme."),
        ("{brand}: {title}", {"brand": ""}, "Kite"),
        ("{title} ({brand}, {category})", {"brand": "", "category": "Toys"}, "Kite (Toys)"),
        ("{title} ({brand}, {category})", {"brand": "Acme", "category": ""}, "Kite (Acme)"),
        ("{title} ({brand}, {category})", {"brand": "", "category": ""}, "Kite"),
        ("{title}. Brand: {brand}. Kind: {category}", {"brand": "", "category": "Toys"}, "Kite. Kind: Toys"),
        ("{title} {brand}", {"brand": "f() [] {title}"}, "Kite f() [] {title}"),
    ],
)
def test_an_empty_value_goes_with_its_punctuation(template, cells, text):
    assert ItemText(template).of(["Kite"], {name: [cell] for name, cell in cells.items()}) == [text]


@pytest.mark.parametrize("template", ["no place", "{title", "{title}} x", "", "{title}\0", "{title}\n{brand}"])
def test_a_template_without_sense_is_refused(template):
    with pytest.raises(ConfigError, match="--item-text"):
        ItemText(template)


def test_a_prompt_knows_the_title_alone():
    with pytest.raises(ConfigError, match=r"--title-prompt has \{brand\}.*--item-text"):
        ModelConfig(title_prompt="{title} of {brand}")
    assert ModelConfig(title_prompt='{"name": "{title}"}').title_prompt


@pytest.fixture
def shop(tmp_path):
    """Two files: six orders of three items, with brand and category."""
    rows = "".join(f"u{n // 3},i{n % 3},{1_600_000_000 + n}\n" for n in range(30))
    (tmp_path / "orders.csv").write_text("user_id,item_id,timestamp\n" + rows)
    (tmp_path / "items.csv").write_text(
        "item_id,title,Brand,category\ni0,Kite,Acme,Toys|Outdoor\ni1,Pan,,Home\ni2,Cup,,\n"
    )
    return tmp_path


def prepared(shop, **settings):
    sources = Sources(interactions=shop / "orders.csv", items=shop / "items.csv")
    prepare(sources, shop / "data", PrepareConfig(**settings), overwrite=True)
    return Dataset.open(shop / "data")


def test_texts_are_made_of_columns_and_people_still_see_titles(shop):
    dataset = prepared(shop, item_text="{title}. {brand}. {category}")
    assert dataset.catalog.titles.tolist() == ["Kite", "Pan", "Cup"]
    assert dataset.catalog.texts.tolist() == ["Kite. Acme. Toys|Outdoor", "Pan. Home", "Cup"]
    assert {name: v.tolist() for name, v in dataset.catalog.more.details.items()} == {
        "Brand": ["Acme", "", ""],
        "category": ["Toys|Outdoor", "Home", ""],
    }
    assert dataset.manifest.content["reading"]["items"]["item_text"] == "{title}. {brand}. {category}"


def test_columns_are_kept_without_a_text_of_their_own(shop):
    catalog = prepared(shop).catalog
    assert catalog.texts is catalog.titles
    assert catalog.detail("Category", "--segment").tolist() == ["Toys|Outdoor", "Home", ""]
    with pytest.raises(
        DataError, match=r"--segment: the items have no column 'colour'; known columns: Brand, category"
    ):
        catalog.detail("colour", "--segment")


def test_unknown_placeholders_are_refused_with_the_known_ones(shop):
    with pytest.raises(ConfigError, match=r"\{colour\}") as refused:
        prepared(shop, item_text="{title} {colour}")
    assert refused.value.hint == "it can have {title}, {Brand}, {category}"
    assert not (shop / "data").exists()


def test_columns_that_differ_in_case_alone_are_told_apart(shop):
    (shop / "items.csv").write_text(
        "item_id,title,Brand,brand,none\ni0,Kite,Acme,acme & sons,\ni1,Pan,,x,\ni2,Cup,,,\n"
    )
    catalog = prepared(shop, item_text="{title} {Brand} {brand}").catalog
    assert catalog.texts.tolist() == ["Kite Acme acme & sons", "Pan x", "Cup"]
    assert catalog.detail("brand", "--max-per").tolist() == ["acme & sons", "x", ""]
    with pytest.raises(ConfigError, match=r"\{BRAND\}, but no such column, or several"):
        prepared(shop, item_text="{title} {BRAND}")
    with pytest.raises(DataError, match="--max-per: the items have several columns 'BRAND'"):
        catalog.detail("BRAND", "--max-per")


def test_a_column_that_says_nothing_is_named(shop, caplog):
    (shop / "items.csv").write_text("item_id,title,none\ni0,Kite,\ni1,Pan,\ni2,Cup,\n")
    assert prepared(shop, item_text="{title} {None}").catalog.texts.tolist() == ["Kite", "Pan", "Cup"]
    assert "empty for every item, so that --item-text lacks it: none" in caplog.text


def test_columns_of_orders_are_kept_where_they_say_something_of_the_item(tmp_path):
    lines = [f"u{n // 3};i{n % 3};T{n % 3};2024-01-{n % 28 + 1:02d};c{n % 3};{n}.5" for n in range(60)]
    (tmp_path / "orders.csv").write_text("customer_no;sku;product_name;ordered_at;category;price\n" + "\n".join(lines))
    config = PrepareConfig(item_text="{title} of {category}")
    prepare(Sources(interactions=tmp_path / "orders.csv"), tmp_path / "data", config)
    catalog = Dataset.open(tmp_path / "data").catalog
    assert catalog.texts.tolist() == ["T0 of c0", "T1 of c1", "T2 of c2"]
    assert list(catalog.more.details) == ["category"]


def test_more_items_keep_their_texts_and_details(tmp_path):
    more = MoreOfItems(np.asarray(["A x"], object), {"brand": np.asarray(["x"], object)})
    catalog = Catalog(np.asarray(["a"], object), np.asarray(["A"], object), more)
    larger = catalog.extended(["b"], ["B"]).extended(["c"], ["C"], MoreOfItems(None, {"Brand": np.asarray(["y"])}))
    larger.write(tmp_path / "items.parquet")
    again = Catalog.read(tmp_path / "items.parquet")
    assert again.texts.tolist() == ["A x", "B", "C"]
    assert again.more.details["brand"].tolist() == ["x", "", "y"]


def test_the_model_reads_the_text(shop, tiny_backbone):
    from flr_model.nn.run import load_recommender
    from flr_model.training.sft import train
    from tests.builders import tiny_model, tiny_train

    prepared(shop, item_text="{title}. {category}")
    train(shop / "data", shop / "run", model=tiny_model(tiny_backbone), train=tiny_train(epochs=1))
    recommender = load_recommender(shop / "run")
    assert recommender.catalog.detail("brand", "--segment").tolist() == ["Acme", "", ""]
    texts = recommender.catalog.texts.tolist()
    vectors = recommender.reader.encode_titles([*texts, "Kite"])
    np.testing.assert_allclose(vectors[:3], recommender.vectors, atol=1e-4)
    assert np.abs(vectors[3] - vectors[0]).max() > 1e-2
    assert json.loads((shop / "run" / "manifest.json").read_text())["content"]["reading"]["items"]["item_text"]
