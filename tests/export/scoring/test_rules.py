import csv
import logging

import pytest

from flr_export.scoring.rules import ItemRules
from flr_export.scoring.score import score_file
from flr_model.config import ScoreConfig
from flr_model.errors import ConfigError, DataError, Interrupted
from tests.export.scoring.test_index import Nearest
from tests.export.scoring.test_resume import StoppingReader
from tests.export.toy import toy_recommender


@pytest.fixture
def run(tmp_path):
    """Score with rules given as text and return user, item and score of each recommendation."""
    (tmp_path / "histories.csv").write_text("user_id,history\nu,a\nv,b d\nw,f\n")

    def score(*, candidates=None, recommender=None, config=None, resume=False, items=None, out="recs.csv", **rules):
        for name, text in (*rules.items(), ("candidates", candidates)):
            if text is not None:
                (tmp_path / f"{name}.csv").write_text(text)
        score_file(
            recommender or toy_recommender(),
            tmp_path / "histories.csv",
            tmp_path / out,
            config=config or ScoreConfig(top_k=6),
            items=items,
            candidates=candidates and tmp_path / "candidates.csv",
            rules=ItemRules(**{name: tmp_path / f"{name}.csv" for name in rules}),
            overwrite=not resume,
            resume=resume,
        )
        with (tmp_path / out).open(newline="") as file:
            return [(row["user_id"], row["item_id"], row["score"]) for row in csv.DictReader(file)]

    return score


@pytest.mark.parametrize("block", [1, 1 << 22])
@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ({"only": "c\nf\n"}, "cf"),
        ({"exclude": "item_id\nc\nf\n"}, "abde"),
        ({"only": "c\nf\ne\n", "exclude": "f\na\n"}, "ce"),
    ],
)
def test_rules_leave_out_rows_and_change_no_score(run, monkeypatch, rules, left, block):
    monkeypatch.setattr("flr_model.ranking.mixture.BLOCK_LOGITS", block)
    expected = [row for row in run() if row[1] in left]
    assert expected
    assert run(**rules) == expected


def test_rules_and_candidates_leave_what_both_have(run, tmp_path):
    rows = run(only="c\nf\ne\n", exclude="e\n", candidates="user_id,history\nu,c d e\nv,e\nw,c a\n")
    assert [row[:2] for row in rows] == [("u", "c"), ("w", "c")]
    assert "3,v,no candidate is left to recommend" in (tmp_path / "recs.csv.rejects.csv").read_text()


def test_unknown_ids_are_counted_once_with_three_samples(run, caplog):
    with caplog.at_level(logging.WARNING):
        run(exclude="z\nx\nc\ny\nw\nz\n", config=ScoreConfig(batch_size=1))
    (message,) = caplog.messages
    assert message.endswith(
        "exclude.csv (--exclude-items): unknown ids, which are left out: 4 of 5, for instance z, x, y"
    )


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"only": "x\ny\n"}, r"only.csv \(--only-items\): none of its ids is known \(2 ids, for instance x, y\)"),
        ({"exclude": "x\n"}, r"exclude.csv \(--exclude-items\): none of its ids is known \(1 id, for instance x\)"),
        ({"exclude": "a\nb\nc\nd\ne\nf\n"}, "exclude.csv excludes all that could be recommended"),
        ({"only": "a\nb\n", "exclude": "a\nb\n"}, "exclude.csv excludes all that could be recommended"),
        ({"only": 'item_id\na\n""\n'}, r"no item id in 1 row \(line 3\)"),
    ],
)
def test_rules_that_change_nothing_or_leave_nothing_are_refused(run, tmp_path, rules, message):
    with pytest.raises(DataError, match=message):
        run(**rules)
    assert not (tmp_path / "recs.csv").exists()


def test_new_items_can_be_in_the_rules(run, tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\nx,even new\n")
    assert [row[:2] for row in run(only="x\n", items=tmp_path / "items.csv")] == [("u", "x"), ("v", "x"), ("w", "x")]


@pytest.mark.parametrize("role", ["only", "exclude"])
def test_other_rules_cannot_go_on_with_an_interrupted_run(run, role, monkeypatch):
    monkeypatch.setattr("flr_export.scoring.outputs.SAVE_SECONDS", 0)
    config, rules = ScoreConfig(top_k=6, batch_size=1, threads=1), {role: "c\nf\n"}
    with pytest.raises(Interrupted, match="after 1 users"):
        run(config=config, recommender=toy_recommender(StoppingReader(2, KeyboardInterrupt())), **rules)
    with pytest.raises(ConfigError, match=f"changed since the interrupted run: --{role}-items"):
        run(config=config, resume=True, **{role: "c\nf\ne\n"})


@pytest.mark.parametrize("role", ["only", "exclude"])
def test_the_result_cannot_replace_a_file_of_rules(run, role):
    with pytest.raises(ConfigError, match="is an input of this command"):
        run(out=f"{role}.csv", **{role: "c\nf\n"})


def test_an_index_that_would_miss_what_is_left_is_not_used(run, caplog, monkeypatch):
    caplog.set_level(logging.WARNING)
    config = ScoreConfig(top_k=1, index="ann")
    near = toy_recommender(index=Nearest())
    assert {row[1] for row in run(exclude="c\n", recommender=near, config=config)} == {"e"}
    assert not caplog.messages
    monkeypatch.setattr("flr_model.ranking.catalog.NEAR", 1)
    rows = run(only="c\nf\n", recommender=near, config=config)
    assert [row[:2] for row in rows] == [("u", "c"), ("v", "f"), ("w", "c")]
    (message,) = caplog.messages
    assert "--index ann is not used" in message


def test_new_items_without_the_columns_of_the_item_text_are_warned_of(tmp_path, caplog):
    from flr_export.scoring.new_items import read_new_items, with_new_items
    from flr_model.files.reading import Reading

    (tmp_path / "items.csv").write_text("item_id,title,brand\nx,even new,odd\n")
    read = read_new_items(tmp_path / "items.csv", Reading(item_text="{title} {brand} {size}"), toy_recommender())
    wider = with_new_items(toy_recommender(), read)
    assert wider.catalog.texts[-1] == "even new odd"
    assert wider.vectors[-1].tolist() == [1, 1]
    assert "no column size, of which the bundle's item texts are made" in caplog.text
