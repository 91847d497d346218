import csv
import gzip
import json
import logging

import numpy as np
import pandas as pd
import pytest

from flr_export.scoring import score as batch
from flr_export.scoring.batching import BatchLimit
from flr_export.scoring.chunks import Scoring
from flr_export.scoring.inputs import HistoryFile, Shard
from flr_export.scoring.score import score_file
from flr_model.config import FilesConfig, ScoreConfig
from flr_model.errors import ArtifactError, ConfigError, DataError, FlrError
from tests.export.toy import ToyReader, toy_joint, toy_recommender

LONG = "user_id,item_id,timestamp\nu,a,1\nv,b,1\nv,d,2\n"
WIDE = 'user_id,history\nu,"[""a""]"\nv,"[""b"", ""d""]"\n'


@pytest.fixture
def run(tmp_path):
    """Score text (or an existing file) and return the report and the result's rows."""

    def score(
        histories, *, out="recs.csv", top_k=2, batch_size=256, allow_seen=False, strict=False, threads=0, **given
    ):
        if isinstance(histories, str):
            (tmp_path / "histories.csv").write_text(histories, encoding="utf-8")
            histories = tmp_path / "histories.csv"
        config = ScoreConfig(top_k=top_k, batch_size=batch_size, allow_seen=allow_seen, strict=strict, threads=threads)
        report = score_file(toy_recommender(), histories, tmp_path / out, config=config, **given)
        with (tmp_path / out).open(encoding="utf-8", newline="") as file:
            return report, list(csv.DictReader(file))

    return score


def rejects(tmp_path, out="recs.csv"):
    with (tmp_path / f"{out}.rejects.csv").open(newline="") as file:
        return [tuple(row.values()) for row in csv.DictReader(file)]


def pairs(rows):
    return [(row["user_id"], row["item_id"]) for row in rows]


def test_result_has_rank_title_probability_and_what_it_is_made_of(run, tmp_path):
    report, rows = run(LONG, top_k=3)
    assert list(rows[0]) == [
        "user_id", "rank", "item_id", "title", "score", "factor_1", "factor_2", "counted",
        "because_item_id", "because_title",
    ]  # fmt: skip
    assert pairs(rows) == [("u", "c"), ("u", "e"), ("u", "f"), ("v", "f"), ("v", "a"), ("v", "c")]
    for row, history in zip(rows, [[0]] * 3 + [[1, 3]] * 3, strict=True):
        joint = toy_joint(history)[:, "abcdef".index(row["item_id"])]
        assert float(row["score"]) == pytest.approx(joint.sum(), rel=1e-5)
        assert [float(row["factor_1"]), float(row["factor_2"])] == pytest.approx(joint / joint.sum(), rel=1e-5)
        counted = joint[0] / joint.sum() / 2 if history == [0] and row["item_id"] == "f" else 0  # bought with a, once
        assert float(row["counted"]) == pytest.approx(counted, rel=1e-5)
    reasons = [(row["because_item_id"], row["because_title"]) for row in rows]
    assert reasons == [("a", "even one")] * 3 + [("b", "odd one")] + [("", "")] * 2
    assert (report.users, report.scored, report.rejected, report.rows) == (2, 2, 0, 6)
    assert report.rejects is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["histories.csv", "recs.csv"]


@pytest.mark.parametrize(
    "text",
    [
        WIDE,
        "user_id;items\nu;a\nv;b d\n",
        "user\thistory_item_id\nu\ta\nv\tb|d\n",
        "uid,item_ids\nu,['a']\nv,\"['b', 'd']\"\n",
        "\ufeffuser_id,history\r\nu,a\r\n\r\nv,b;d\r\n",
        "user_id,item_id,timestamp\nu,a,2020-01-01\nv,d,2020-01-01T10:00:00Z\nv,b,2020-01-01 09:00\n",
        "item_id,x,user_id\na,1,u\nb,2,v\nd,3,v\n",
    ],
)
def test_every_form_of_the_same_histories_gives_the_same_result(run, text):
    _, expected = run(LONG, out="expected.csv")
    _, rows = run(text)
    assert rows == expected


def test_scattered_rows_of_a_user_are_ordered_by_time_then_file(run, tmp_path):
    seen = []
    recommender = toy_recommender()
    original = recommender.reader.read
    recommender.reader.read = lambda histories, *rest: seen.append(histories) or original(histories, *rest)
    text = "user_id,item_id,timestamp\nv,f,9\nu,a,5\nv,b,9\nu,c,1\nv,d,3\n"
    (tmp_path / "h.csv").write_text(text)
    score_file(recommender, tmp_path / "h.csv", tmp_path / "o.csv", config=ScoreConfig(top_k=1))
    assert seen[-1].items.tolist() == [[3, 5, 1], [-1, 2, 0]]


def test_the_newest_interaction_is_history(run):
    _, rows = run("user_id,item_id,timestamp\nu,b,1\nu,a,2\n", top_k=6)
    assert {"a", "b"}.isdisjoint(row["item_id"] for row in rows)
    _, rows = run("user_id,item_id,timestamp\nu,b,1\nu,a,2\n", top_k=6, allow_seen=True, overwrite=True)
    assert len(rows) == 6


def test_items_older_than_the_network_reads_are_still_seen(run):
    _, rows = run("user_id,items\nu,a b d f\n", top_k=6)
    assert pairs(rows) == [("u", "c"), ("u", "e")]


def test_gzip_and_parquet_are_read_like_csv(run, tmp_path):
    _, expected = run(LONG, out="expected.csv")
    with gzip.open(tmp_path / "h.csv.gz", "wt") as file:
        file.write(WIDE)
    pd.DataFrame({"user_id": ["u", "v"], "basket": [["a"], ["b", "d"]]}).to_parquet(tmp_path / "wide.parquet")
    frame = pd.DataFrame({"user_id": list("uvv"), "item_id": list("adb"), "timestamp": [1.5, 9, 2]})
    frame.to_parquet(tmp_path / "long.parquet")
    assert run(tmp_path / "h.csv.gz", out="1.csv")[1] == expected
    assert run(tmp_path / "wide.parquet", out="2.csv", files=FilesConfig(item_col="basket"))[1] == expected
    assert run(tmp_path / "long.parquet", out="3.csv")[1] == expected


def test_parquet_result_has_the_same_rows(run, tmp_path):
    _, expected = run(LONG)
    score_file(toy_recommender(), tmp_path / "histories.csv", tmp_path / "recs.parquet", config=ScoreConfig(top_k=2))
    frame = pd.read_parquet(tmp_path / "recs.parquet")
    assert list(frame.columns) == list(expected[0])
    assert frame["item_id"].tolist() == [row["item_id"] for row in expected]
    assert frame["rank"].tolist() == [1, 2, 1, 2]
    np.testing.assert_allclose(frame["score"], [float(row["score"]) for row in expected], atol=1e-6)


def test_columns_can_be_named(run):
    files = FilesConfig(user_col="who", item_col="what", time_col="when")
    _, rows = run("what,who,when\na,u,1\n", files=files)
    assert pairs(rows) == [("u", "c"), ("u", "e")]


def test_every_row_is_scored_or_rejected_with_its_line_and_reason(run, tmp_path):
    text = 'user_id,history\nu,a\nv,"x|y"\nw,a,b\n\n,a\nx,\ny,"[1, 2"\nz,a b c d e f\n'
    report, rows = run(text)
    assert (report.users, report.scored, report.rejected) == (7, 1, 6)
    assert {row["user_id"] for row in rows} == {"u"}
    assert rejects(tmp_path) == [
        ("3", "v", "none of its 2 items is known, for instance x, y"),
        ("4", "", "3 cells instead of 2"),
        ("6", "", "no user id"),
        ("7", "x", "empty history"),
        ("8", "y", "not a list of ids: '[1, 2'"),
        ("9", "z", "no candidate is left to recommend"),
    ]


def test_broken_lines_of_the_long_form_leave_their_users_other_lines(run, tmp_path):
    text = "user_id,item_id,timestamp\nu,a,1\nu,b,soon\nv,,2\n,a,2\nu,a\n"
    report, rows = run(text)
    assert (report.users, report.scored, report.rejected, report.broken_lines) == (2, 1, 1, 4)
    assert pairs(rows) == [("u", "c"), ("u", "e")]
    assert rejects(tmp_path) == [
        ("3", "u", "the time is neither a number nor a date: 'soon'"),
        ("4", "v", "no item id"),
        ("5", "", "no user id"),
        ("6", "", "2 cells instead of 3"),
        ("4", "v", "no usable line"),
    ]


def test_line_numbers_count_lines_inside_quotes(run, tmp_path):
    run('user_id,history,note\nu,a,"two\nlines"\nv,x,\n')
    assert rejects(tmp_path)[0][:2] == ("4", "v")


@pytest.mark.parametrize("where", ['v,"b', '"v,b', 'v,b,"'])
def test_a_quote_that_is_not_closed_costs_its_line_alone(run, tmp_path, where):
    report, rows = run(f"user_id,history\nu,a\n{where}\nw,c\nx,d\n")
    assert (report.users, report.scored, report.rejected) == (4, 3, 1)
    assert {row["user_id"] for row in rows} == {"u", "w", "x"}
    assert rejects(tmp_path) == [("3", "", "a quote is not closed")]


def test_file_that_is_not_utf8_is_read_as_windows_1252(run, tmp_path):
    (tmp_path / "h.csv").write_bytes(b"user_id,history\nZo\xeb,a\n")
    _, rows = run(tmp_path / "h.csv")
    assert pairs(rows) == [("Zoë", "c"), ("Zoë", "e")]


def test_whole_numbers_with_a_point_are_found(run, tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\n12,even\n")
    report, _ = run("user_id,item_id\nu,12.0\nu,a\n", items=tmp_path / "items.csv")
    assert report.unknown_interactions == 0


def test_file_without_header_is_read_by_number(run):
    _, rows = run("u1,a,1\nu1,b,2\n", files=FilesConfig(user_col="1", item_col="2", time_col="3"))
    assert {row["user_id"] for row in rows} == {"u1"}


@pytest.mark.parametrize("form", ["auto", "wide"])
def test_own_name_of_a_list_column(run, form):
    files = FilesConfig(item_col="basket")
    text = 'user_id,basket\nu,"[""a"", ""b""]"\n' if form == "auto" else "user_id,basket\nu,a b\n"
    report, _ = run(text, files=files)
    assert (report.scored, report.unknown_interactions) == (1, 0)


def test_form_can_be_forced_to_long(run):
    report, _ = run("user_id,items,asin\nu,2,a\nu,1,b\n", form="long")
    assert (report.users, report.unknown_interactions) == (1, 0)


def test_json_lines_are_read(run, tmp_path):
    lines = [{"user_id": "u", "history": ["a"]}, {"user_id": "v", "history": ["b", "d"]}]
    (tmp_path / "h.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(tmp_path / "h.jsonl")[1] == run(LONG, out="expected.csv")[1]


def test_result_cannot_replace_an_input(run, tmp_path):
    (tmp_path / "histories.csv").write_text(LONG)
    with pytest.raises(ConfigError, match="is an input of this command"):
        run(tmp_path / "histories.csv", out="histories.csv", overwrite=True)


def test_result_cannot_be_a_folder(run, tmp_path):
    (tmp_path / "recs.csv").mkdir()
    with pytest.raises(ArtifactError, match="is a folder"):
        run(LONG, overwrite=True)


@pytest.mark.parametrize("role", ["items", "candidates"])
def test_missing_side_file_is_refused(run, tmp_path, role):
    with pytest.raises(DataError, match="does not exist"):
        run(LONG, **{role: tmp_path / "nowhere.csv"})


def test_strict_stops_at_the_first_reject_and_leaves_the_old_result(run, tmp_path):
    (tmp_path / "recs.csv").write_text("old")
    with pytest.raises(DataError, match=r"line 3 \(user v\): none of its 1 items is known, for instance x"):
        run("user_id,history\nu,a\nv,x\n", strict=True, overwrite=True)
    assert (tmp_path / "recs.csv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["histories.csv", "recs.csv"]


def test_unknown_items_are_reported_once_with_their_count(run, caplog):
    with caplog.at_level(logging.WARNING):
        report, _ = run("user_id,history\nu,a x\nv,x y z\nw,b w x\n", batch_size=1)
    assert report.unknown_interactions == 6
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("6 interactions are with unknown items, for instance x, y, z;")


def test_unknown_items_are_used_and_recommended_by_title(run, tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\nx,even new\ny,even newer\nw,\na,ignored\n")
    report, rows = run("user_id,history\nu,x\n", items=tmp_path / "items.csv")
    assert report.unknown_interactions == 0
    assert pairs(rows) == [("u", "a"), ("u", "y")]
    assert [row["title"] for row in rows] == ["even one", "even newer"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id,title\nx,t\nx,s\n", "more than once"),
        ("item_id,title\n,t\nx,s\n", "no item id in 1 row"),
        ("item_id,price\nx,1\n", "no title column"),
    ],
)
def test_bad_items_file_is_refused(run, tmp_path, text, message):
    (tmp_path / "items.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        run(LONG, items=tmp_path / "items.csv")


def test_only_candidates_are_ranked_and_users_without_are_rejected(run, tmp_path):
    (tmp_path / "candidates.csv").write_text("user_id,item_id\nu,f\nu,a\nu,b\nu,unknown\n")
    _, rows = run(LONG, top_k=5, candidates=tmp_path / "candidates.csv")
    assert pairs(rows) == [("u", "f"), ("u", "b")]
    assert rejects(tmp_path) == [("3", "v", "no candidates are given for it")]


def test_candidates_named_twice_are_recommended_once_and_ties_keep_the_catalogues_order(run, tmp_path):
    (tmp_path / "candidates.csv").write_text("user_id,history\nu,f d b d f\nv,a\n")
    _, rows = run(LONG, top_k=5, candidates=tmp_path / "candidates.csv")
    assert pairs(rows) == [("u", "f"), ("u", "b"), ("u", "d"), ("v", "a")]


def test_shards_split_the_users_and_concatenate_to_the_whole(run):
    text = "user_id,history\n" + "".join(f"u{i},{'abcdef'[i % 6]}\n" for i in range(40)) + "broken\n"
    whole, expected = run(text, out="whole.csv")
    parts = [run(text, out=f"{n}.csv", shard=Shard.parse(f"{n}/3")) for n in (1, 2, 3)]
    assert all(report.users for report, _ in parts)
    assert sum(report.users for report, _ in parts) == whole.users == 41
    key = lambda row: (row["user_id"], row["rank"])  # noqa: E731
    assert sorted((row for _, rows in parts for row in rows), key=key) == sorted(expected, key=key)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_shards_must_be_a_part_of_a_whole(text):
    with pytest.raises(ConfigError, match="--shards"):
        Shard.parse(text)


def test_catalogue_larger_than_one_block_of_scores_gives_the_same_bytes(run, tmp_path, monkeypatch):
    run(WIDE, out="whole.csv")
    monkeypatch.setattr("flr_model.ranking.mixture.BLOCK_LOGITS", 1)
    run(WIDE)
    assert (tmp_path / "recs.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_by_length_on_several_threads_give_the_bytes_of_one_user_at_a_time(run, tmp_path, threads, monkeypatch):
    users = [f"u{i}," + " ".join("abcdef"[(i + n) % 6] for n in range(1 + i % 5)) for i in range(60)]
    text = "user_id,history\n" + "\n".join(users) + "\nlost,x\n"
    run(text, out="whole.csv", batch_size=1)
    monkeypatch.setattr("flr_export.scoring.chunks.FIRST_CHUNK", 8)
    for positions in (1, 7, 1000):
        monkeypatch.setattr("flr_export.scoring.score.BatchLimit", lambda positions=positions: BatchLimit(positions))
        run(text, threads=threads, overwrite=True)
        assert (tmp_path / "recs.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


class SmallMemory(ToyReader):
    """Has memory for a few histories at once."""

    def __init__(self, most):
        self.most, self.sizes = most, []

    def read(self, histories, vectors, titles):
        self.sizes.append(len(histories.items))
        if len(histories.items) > self.most:
            raise MemoryError
        return super().read(histories, vectors, titles)


def score_with(reader, tmp_path, out):
    (tmp_path / "h.csv").write_text("user_id,history\n" + "".join(f"u{i},{'abcdef'[i % 6]}\n" for i in range(40)))
    config = ScoreConfig(top_k=2, threads=1)
    score_file(toy_recommender(reader), tmp_path / "h.csv", tmp_path / out, config=config)
    return (tmp_path / out).read_bytes()


def test_out_of_memory_halves_the_batches_and_loses_nobody(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("flr_export.scoring.chunks.FIRST_CHUNK", 20)
    reader = SmallMemory(3)
    assert score_with(reader, tmp_path, "a.csv") == score_with(ToyReader(), tmp_path, "b.csv")
    assert reader.sizes[:4] == [1, 20, 10, 5]
    assert "going on with halves" in caplog.text


def test_a_gpu_ranks_few_batches_that_grow_and_a_processor_one_for_each_core(monkeypatch):
    monkeypatch.setattr(batch, "on_gpu", lambda: True)
    workers, limit = batch.means(ScoreConfig(threads=7))
    assert (workers, limit.positions, limit.grows) == (2, 4096, True)
    monkeypatch.setattr(batch, "on_gpu", lambda: False)
    workers, limit = batch.means(ScoreConfig(threads=7))
    assert (workers, limit.positions, limit.grows) == (7, 1024, False)


def test_out_of_memory_with_a_single_user_is_an_error(tmp_path):
    class NoMemory(ToyReader):
        def read(self, histories, vectors, titles):
            if (histories.items == 1).any():
                raise MemoryError
            return super().read(histories, vectors, titles)

    with pytest.raises(MemoryError):
        score_with(NoMemory(), tmp_path, "a.csv")


def test_first_results_are_written_before_the_whole_first_batch_size_is_read(tmp_path):
    (tmp_path / "h.csv").write_text("user_id,history\n" + "".join(f"u{i},a\n" for i in range(5000)))
    source = HistoryFile.open(tmp_path / "h.csv")
    work = Scoring(toy_recommender(), ScoreConfig(batch_size=2048))
    assert [len(chunk.entries) for chunk in work.chunks(source.entries())] == [256, 256, 512, 1024, 2048, 904]
    assert [len(chunk.entries) for chunk in work.chunks(source.entries(), 512)] == [512, 1024, 2048, 904]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "only blank lines"),
        ("user_id,item_id\n", "has a header .* and no rows"),
        ("user_id,rating\nu,1\n", "no item_id column.*'user_id', 'rating'"),
        ("a b\nu 1\n", "no user_id column.*no item_id column"),
        ("user_id,history\nu,x\nv,y\n", "none of the 2 users .*line 2 .user u.: none of its 1 items"),
        ("user_id,item_id,timestamp\nu,a,soon\n", "the time is neither a number nor a date: 'soon'"),
    ],
)
def test_unusable_histories_are_refused_and_nothing_is_left(run, tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        run(text)
    assert [path.name for path in tmp_path.iterdir()] == ["histories.csv"]


def test_named_column_that_does_not_exist_is_refused(run):
    with pytest.raises(DataError, match="no column 'when'"):
        run(LONG, files=FilesConfig(time_col="when"))


def test_truncated_gzip_is_refused_and_the_old_result_stays(run, tmp_path):
    content = gzip.compress(("user_id,history\n" + "".join(f"u{i},a\n" for i in range(5000))).encode())
    (tmp_path / "h.csv.gz").write_bytes(content[: len(content) // 2])
    (tmp_path / "recs.csv").write_text("old")
    with pytest.raises(DataError, match="damaged gzip"):
        run(tmp_path / "h.csv.gz", overwrite=True)
    assert (tmp_path / "recs.csv").read_text() == "old"


def test_truncated_parquet_is_refused(run, tmp_path):
    (tmp_path / "h.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match="not a readable Parquet"):
        run(tmp_path / "h.parquet")


@pytest.mark.parametrize("name", ["nowhere.csv", "."])
def test_missing_file_is_refused(run, tmp_path, name):
    with pytest.raises(DataError, match=r"does not exist|cannot be read"):
        run(tmp_path / name)


def test_a_user_that_went_missing_is_an_error_and_no_result(run, tmp_path, monkeypatch):
    real = batch._write

    def losing(*given):
        counts = real(*given)
        counts.scored -= 1
        return counts

    monkeypatch.setattr(batch, "_write", losing)
    with pytest.raises(FlrError, match="2 users were read, but 1 scored and 0 rejected"):
        run(LONG)
    assert not (tmp_path / "recs.csv").exists()


def test_the_log_says_that_the_counts_add_up(run, caplog):
    with caplog.at_level(logging.INFO, logger="flr_export"):
        run("user_id,history\nu,a\nv,x\nw,b\n")
    assert "3 users = 2 scored + 1 rejected; 4 rows" in caplog.messages[-1]


def test_existing_result_is_replaced_only_when_asked(run, tmp_path):
    run(LONG)
    before = (tmp_path / "recs.csv").read_bytes()
    with pytest.raises(ArtifactError, match="exists already"):
        run(LONG, top_k=1)
    assert (tmp_path / "recs.csv").read_bytes() == before
    _, rows = run(LONG, top_k=1, overwrite=True)
    assert len(rows) == 2


def test_rejects_of_an_earlier_run_do_not_outlive_it(run, tmp_path):
    run("user_id,history\nu,a\nv,x\n")
    assert rejects(tmp_path)
    run(WIDE, overwrite=True)
    assert not (tmp_path / "recs.csv.rejects.csv").exists()


def test_times_of_the_wide_form_order_the_list_and_must_match_it(run, tmp_path):
    times = json.dumps([3, 1])
    run(f'user_id,history,history_timestamp\nu,b d,"{times}"\nv,a,"{times}"\n')
    assert rejects(tmp_path) == [("3", "v", "1 item but 2 times")]
