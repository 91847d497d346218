import csv
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flr_export.scoring.most_per import MostPer
from flr_export.scoring.rules import ItemRules
from flr_export.scoring.score import score_file
from flr_model.config import ScoreConfig
from flr_model.data.catalog import Catalog, MoreOfItems
from flr_model.errors import ConfigError, DataError
from flr_model.files.ids import read_factors
from flr_model.files.reading import Reading
from tests.export.scoring.test_index import Nearest
from tests.export.toy import IDS, TITLES, toy_recommender


def shop(index=None):
    """The toy, its items of categories x, y, x|y, y, none, x."""
    recommender = toy_recommender(index=index)
    cells = np.asarray(["x", "y", "x|y", "y", "", "x"], object)
    recommender.catalog = Catalog(IDS, TITLES, MoreOfItems(None, {"category": cells}))
    return recommender


@pytest.fixture
def run(tmp_path):
    """Score with rules and return (user, item, score) of each recommendation."""
    (tmp_path / "histories.csv").write_text("user_id,history\nu,a\nv,b d\nw,f\n")

    def score(boost=None, recommender=None, top_k=6, index="exact", **rules):
        if boost is not None:
            (tmp_path / "boost.csv").write_text(boost)
            rules["boost"] = tmp_path / "boost.csv"
        config = ScoreConfig(top_k=top_k, index=index)
        out = tmp_path / "recs.csv"
        score_file(
            recommender or shop(),
            tmp_path / "histories.csv",
            out,
            config=config,
            rules=ItemRules(**rules),
            overwrite=True,
        )
        with out.open(newline="") as file:
            return [(row["user_id"], row["item_id"], float(row["score"])) for row in csv.DictReader(file)]

    return score


@pytest.mark.parametrize("block", [1, 1 << 22])
def test_a_boost_multiplies_the_score_and_orders_by_it(run, monkeypatch, block):
    monkeypatch.setattr("flr_model.ranking.mixture.BLOCK_LOGITS", block)
    plain = {(user, item): score for user, item, score in run()}
    boosted = run("item_id,factor\nb,3\nc,.5\n")
    factor = {"b": 3, "c": 0.5}
    for user, item, score in boosted:
        assert score == pytest.approx(plain[user, item] * factor.get(item, 1), rel=1e-4)
    for name in "uvw":
        scores = [score for user, _, score in boosted if user == name]
        assert scores == sorted(scores, reverse=True)
    assert next(item for user, item, _ in boosted if user == "u") == "b"
    assert next(item for user, item, _ in run() if user == "u") == "c"


@pytest.mark.parametrize(
    ("boost", "message"),
    [
        ("item_id,price\nb,3\n", "no column of factors; its columns are 'item_id', 'price'"),
        ("item_id,weight,factor\nb,3,2\n", "several columns of factors; its columns are 'item_id', 'weight', 'factor'"),
        ("item_id,factor,factor\nb,3,2\n", "several columns of factors"),
        *(
            (f"item_id,factor\nb,{cell}\n", "a factor that is no number from 1e-09 to 1e[+]09")
            for cell in ("0", "-1", "much", "nan", "inf", "1e300", "1e-300", "1_000", "150%", "")
        ),
        ("item_id,factor\nb,2\nb,3\n", "an item id again"),
        ("item_id,factor\nz,2\n", r"\(--boost\): none of its ids is known"),
        ("colour,factor\nz,2\n", "no item_id column"),
    ],
)
def test_a_file_of_factors_that_says_nothing_is_refused(run, tmp_path, boost, message):
    with pytest.raises(DataError, match=message):
        run(boost)
    assert not (tmp_path / "recs.csv").exists()


def test_a_boosted_item_is_found_although_an_index_would_miss_it(run, caplog):
    rows = run("item_id,factor\nb,1000\n", recommender=shop(Nearest()), index="ann", top_k=1)
    assert {item for user, item, _ in rows if user != "v"} == {"b"}
    assert "--index ann is not used" in caplog.text


@pytest.mark.parametrize("top_k", [1, 2, 3, 6])
def test_a_list_keeps_the_best_items_that_the_limit_leaves(run, top_k):
    categories = dict(zip(IDS.tolist(), [["x"], ["y"], ["x", "y"], ["y"], [], ["x"]], strict=True))
    expected = []
    for name in "uvw":
        counts, own = {"x": 0, "y": 0}, []
        for user, item, score in run():
            if user == name and len(own) < top_k and all(counts[value] < 1 for value in categories[item]):
                own.append((user, item, score))
                for value in categories[item]:
                    counts[value] += 1
        expected += own
    assert run(most_per=MostPer("Category", 1), top_k=top_k) == expected


def test_a_limit_looks_deeper_than_the_list_is_long(run):
    """Four times two places are not deep enough: the first twenty items are of one category."""
    recommender = toy_recommender()
    more = MoreOfItems(None, {"category": np.asarray(["x"] * 6, object)})
    recommender.catalog = Catalog(IDS, TITLES, more)
    names = [f"n{n}" for n in range(20)]
    details = {"category": np.asarray(["x"] * 19 + ["rare"], object)}
    wide = recommender.with_items(names, ["even"] * 19 + ["odd"], MoreOfItems(None, details))
    rows = run(recommender=wide, most_per=MostPer("category", 1), top_k=2)
    of = dict(zip(wide.catalog.item_ids, wide.catalog.detail("category", ""), strict=True))
    for name in "uvw":
        assert sorted(of[item] for user, item, _ in rows if user == name) == ["rare", "x"]


def test_a_limit_on_a_column_that_is_not_there_is_refused(run):
    with pytest.raises(DataError, match="--max-per: the items have no column 'brand'; known columns: category"):
        run(most_per=MostPer("brand", 1))


def test_a_limit_and_an_index_exclude_each_other(run):
    with pytest.raises(ConfigError, match="--max-per looks deeper"):
        run(recommender=shop(Nearest()), index="ann", most_per=MostPer("category", 1))


def test_a_column_of_yes_and_no_is_no_column_of_factors(tmp_path):
    pq.write_table(pa.table({"item_id": ["b"], "factor": [True]}), tmp_path / "boost.parquet")
    with pytest.raises(DataError, match="a factor that is no number"):
        read_factors(tmp_path / "boost.parquet", Reading())


def test_a_limit_on_an_empty_column_is_said_to_limit_nothing(run, caplog):
    recommender = toy_recommender()
    recommender.catalog = Catalog(IDS, TITLES, MoreOfItems(None, {"brand": np.full(6, "", object)}))
    assert run(recommender=recommender, most_per=MostPer("brand", 1)) == run()
    assert "brand is empty for every item" in caplog.text


@pytest.mark.parametrize(
    "text", ["category", "=2", "category=0", "category=x", "category=-1", "category=\u00b2", "category=" + "9" * 5000]
)
def test_a_limit_is_a_column_and_a_number(text):
    with pytest.raises(ConfigError, match="--max-per is"):
        MostPer.parse(text)
    assert MostPer.parse("a=b=2") == MostPer("a=b", 2)


def test_the_rules_hold_or_are_refused_where_titles_are_written(run, tiny_title_run, tmp_path):
    from flr_model.nn.run import load_recommender

    recommender = load_recommender(tiny_title_run)
    known = recommender.catalog
    shelves = np.asarray([title.split()[1] for title in known.titles], object)
    recommender.catalog = replace(known, more=MoreOfItems(None, {"shelf": shelves}))
    (tmp_path / "histories.csv").write_text("user_id,history\nu,i1 i2 i3\nv,i30 i31\n")
    rows = run(recommender=recommender, most_per=MostPer("shelf", 1), top_k=4)
    shelf = dict(zip(known.item_ids, shelves, strict=True))
    for name in "uv":
        own = [shelf[item] for user, item, _ in rows if user == name]
        assert len(own) == len(set(own)) == 4
    with pytest.raises(ConfigError, match="--boost is for bundles of --decoder catalog"):
        run("item_id,factor\ni1,2\n", recommender=recommender)
