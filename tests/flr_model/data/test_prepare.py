import json

import pandas as pd
import pytest

from flr_model.config import FilesConfig, PrepareConfig
from flr_model.data.dataset import Dataset
from flr_model.data.prepare import Sources, prepare
from flr_model.errors import ArtifactError, ConfigError, DataError

# u0 and u1 take turns, one interaction a second, items 0..4 round and round
EVENTS = [(f"u{n % 2}", n % 5, 1_500_000_000 + n) for n in range(22)]


@pytest.fixture
def interactions(tmp_path):
    path = tmp_path / "interactions.csv"
    pd.DataFrame(EVENTS, columns=["user_id", "item_id", "timestamp"]).to_csv(path, index=False)
    return path


@pytest.fixture
def items(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text('item_id,title\n0,Zero\n1,Same\n2,Same\n3,"<span class=""x"""\n4,Four\n9,Unused\n')
    return path


def _titles(dataset, positions):
    return [str(title) for title in dataset.catalog.titles[positions]]


def test_dataset_folder_holds_the_rows(tmp_path, interactions, items):
    prepare(Sources(interactions=interactions, items=items), tmp_path / "d", PrepareConfig(max_history=2))
    dataset = Dataset.open(tmp_path / "d")
    test = dataset.rows("test")
    assert dataset.catalog.item_ids.tolist() == ["0", "1", "2", "3", "4", "9"]
    # events 20 and 21: u0 saw items 16 % 5, 18 % 5 before 20 % 5; u1 saw 17 % 5, 19 % 5 before 21 % 5
    assert test.user_id.tolist() == ["u0", "u1"]
    assert test.items.tolist() == [1, 3, 2, 4]
    assert test.target.tolist() == [0, 1]
    assert test.target_time.tolist() == [1_500_000_020, 1_500_000_021]
    assert dataset.manifest.settings["prepare"]["max_history"] == 2


def test_items_before_the_history_that_a_row_shows_are_known_as_had(tmp_path, interactions, items):
    prepare(Sources(interactions=interactions, items=items), tmp_path / "d", PrepareConfig(max_history=2))
    row, item = Dataset.open(tmp_path / "d").rows("test").seen()
    # u0 had the items of events 0, 2, ... 18, modulo 5, of which the row shows the last two; u1 those of 1, 3, ... 19
    assert sorted(item[row == 0].tolist()) == sorted([0, 2, 4, 1, 3] * 2)
    assert sorted(item[row == 1].tolist()) == sorted([1, 3, 0, 2, 4] * 2)


def test_report_counts_what_the_data_hold(tmp_path, interactions, items):
    report = prepare(Sources(interactions=interactions, items=items), tmp_path / "d", PrepareConfig())
    assert (report.users, report.items, report.interactions) == (2, 6, 22)
    assert report.density == pytest.approx(22 / 12)
    assert (report.unused_items, report.untitled_items, report.junk_titles) == (1, 0, 1)
    assert (report.distinct_titles, report.duplicate_titles, report.commonest_title) == (5, 2, ("Same", 2))
    assert report.users_in_several_splits == 2
    assert {name: split.rows for name, split in report.splits.items()} == {"train": 16, "valid": 2, "test": 2}
    assert report.splits["train"].timestamp_ties == 0
    assert len(report.examples) == 3


def test_report_is_saved_beside_the_rows_and_in_the_manifest(tmp_path, interactions, items):
    report = prepare(Sources(interactions=interactions, items=items), tmp_path / "d", PrepareConfig())
    saved = json.loads((tmp_path / "d" / "report.json").read_text())
    assert saved == Dataset.open(tmp_path / "d").manifest.content["report"]
    assert saved["splits"]["test"]["rows"] == report.splits["test"].rows


def test_cold_targets_are_in_no_row_of_train(tmp_path, items):
    path = tmp_path / "log.csv"
    # ten targets in time: the 9th and 10th are the valid and test rows
    events = [("u", n % 2, n) for n in range(9)] + [("v", 2, 0), ("v", 3, 20), ("v", 4, 20)]
    pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"]).to_csv(path, index=False)
    report = prepare(Sources(interactions=path, items=items), tmp_path / "d", PrepareConfig())
    assert [split.rows for split in report.splits.values()] == [8, 1, 1]
    assert [split.cold_targets for split in report.splits.values()] == [0, 1, 1]
    assert [split.timestamp_ties for split in report.splits.values()] == [0, 0, 1]
    assert [split.junk_targets for split in report.splits.values()] == [0, 1, 0]


def test_without_times_the_order_of_the_file_counts(tmp_path, interactions, items):
    timed = Sources(interactions=interactions, items=items)
    prepare(timed, tmp_path / "timed", PrepareConfig())
    pd.read_csv(interactions).drop(columns="timestamp").to_csv(interactions, index=False)
    with pytest.raises(DataError, match="no time column") as caught:
        prepare(timed, tmp_path / "untimed", PrepareConfig())
    assert "--no-time" in caught.value.hint
    ordered = Sources(interactions=interactions, items=items, files=FilesConfig(time=False))
    report = prepare(ordered, tmp_path / "untimed", PrepareConfig())
    first, second = (Dataset.open(tmp_path / name).rows("test") for name in ("timed", "untimed"))
    assert first.items.tolist() == second.items.tolist()
    assert second.times.tolist() == [0] * len(second.times)
    assert not report.timed
    assert report.splits["test"].timestamp_ties is None


def test_k_core_filters_the_catalogue_too(tmp_path, interactions, items):
    # 22 events: items 0 and 1 occur five times, the others four times
    report = prepare(Sources(interactions=interactions, items=items), tmp_path / "d", PrepareConfig(k_core=5))
    assert (report.items, report.interactions, report.filtered_interactions) == (2, 10, 12)


@pytest.mark.parametrize("form", ["csv.gz", "parquet", "jsonl", "inter"])
def test_every_form_of_the_input_gives_the_same_rows(tmp_path, interactions, items, form):
    frame = pd.read_csv(interactions)
    path = tmp_path / f"log.{form}"
    if form == "csv.gz":
        frame.to_csv(path, index=False)
    elif form == "parquet":
        frame.to_parquet(path)
    elif form == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.columns = ["user_id:token", "item_id:token", "timestamp:float"]
        frame.to_csv(path, index=False, sep="\t")
    prepare(Sources(interactions=interactions, items=items), tmp_path / "csv", PrepareConfig())
    prepare(Sources(interactions=path, items=items), tmp_path / "other", PrepareConfig())
    assert Dataset.open(tmp_path / "csv").fingerprint() == Dataset.open(tmp_path / "other").fingerprint()


def _write_lines(path, records):
    path.write_text("".join(f"{record}\n" for record in records))
    return path


def test_amazon_2014_reviews_and_metadata_are_read(tmp_path):
    reviews = [
        json.dumps({"reviewerID": user, "asin": f"B{item}", "overall": 5.0, "unixReviewTime": time})
        for user, item, time in EVENTS
    ]
    meta = [{"asin": f"B{item}", "title": f"It's {item}", "related": {"also_bought": ["B1"]}} for item in range(5)]
    sources = Sources(
        interactions=_write_lines(tmp_path / "reviews.json", reviews),
        items=_write_lines(tmp_path / "meta.json", meta),
    )
    prepare(sources, tmp_path / "d", PrepareConfig())
    dataset = Dataset.open(tmp_path / "d")
    assert _titles(dataset, dataset.rows("test").target) == ["It's 0", "It's 1"]


def test_amazon_2018_reviews_and_metadata_are_read(tmp_path):
    reviews = [
        json.dumps(
            {"overall": 5.0, "reviewTime": "01 1, 2018", "reviewerID": user, "asin": f"B{item}", "unixReviewTime": time}
        )
        for user, item, time in EVENTS
    ]
    meta = [
        json.dumps({"category": ["CDs"], "title": f"T{item}", "price": "$1", "asin": f"B{item}"}) for item in range(5)
    ]
    sources = Sources(
        interactions=_write_lines(tmp_path / "reviews.json", reviews),
        items=_write_lines(tmp_path / "meta.json", [*meta, meta[0]]),
    )
    prepare(sources, tmp_path / "d", PrepareConfig())
    assert Dataset.open(tmp_path / "d").catalog.titles.tolist() == ["T0", "T1", "T2", "T3", "T4"]


def test_amazon_2023_reviews_and_metadata_are_read(tmp_path):
    reviews = [
        json.dumps(
            {
                "rating": 5.0,
                "title": "Fine",
                "asin": f"V{n}",
                "parent_asin": f"B{item}",
                "user_id": user,
                "timestamp": time * 1000 + 7,
            }
        )
        for n, (user, item, time) in enumerate(EVENTS)
    ]
    meta = [json.dumps({"main_category": "CDs", "title": f"T{item}", "parent_asin": f"B{item}"}) for item in range(5)]
    sources = Sources(
        interactions=_write_lines(tmp_path / "reviews.jsonl", reviews),
        items=_write_lines(tmp_path / "meta.jsonl", meta),
    )
    prepare(sources, tmp_path / "d", PrepareConfig())
    test = Dataset.open(tmp_path / "d").rows("test")
    assert test.target.tolist() == [0, 1]
    assert test.target_time.tolist() == [1_500_000_020, 1_500_000_021]


def _write_split(path, rows):
    pd.DataFrame(rows, columns=["user_id", "history_item_id", "item_id", "history_timestamp", "timestamp"]).to_csv(
        path, index=False
    )
    return path


def test_ready_made_splits_are_kept_as_they_are(tmp_path, items):
    train = _write_split(tmp_path / "a.csv", [("u", [0], 1, [5], 5), ("v", [2, 1], 0, [1, 2], 3)])
    valid = _write_split(tmp_path / "b.csv", [("u", [0, 1], 2, [5, 5], 6)])
    test = _write_split(tmp_path / "c.csv", [("w", [1], 3, [9], 9)])
    report = prepare(
        Sources(train=train, valid=valid, test=test, items=items), tmp_path / "d", PrepareConfig(max_history=1)
    )
    dataset = Dataset.open(tmp_path / "d")
    assert dataset.rows("train").items.tolist() == [0, 1]
    assert dataset.rows("train").seen()[1].tolist() == [0, 1, 2]
    assert dataset.rows("valid").items.tolist() == [1]
    assert dataset.rows("valid").target.tolist() == [2]
    assert [split.timestamp_ties for split in report.splits.values()] == [1, 0, 1]
    assert [split.cold_targets for split in report.splits.values()] == [0, 1, 1]
    assert (report.split, report.users, report.users_in_several_splits) == ("ready-made", 3, 1)


@pytest.mark.parametrize("names", [{}, {"item_col": "items=2", "title_col": "1"}])
def test_the_papers_list_of_titles_and_ids_is_read_beside_their_splits(tmp_path, names):
    paths = {
        name: _write_split(tmp_path / f"{name}.csv", [("u", [0], 1, [5], 6), ("v", [1], 2, [7], time)])
        for time, name in ((8, "train"), (9, "valid"), (10, "test"))
    }
    (tmp_path / "info.txt").write_text('"Heroes\t0\nOne\t1\n"Two" Deluxe\t2\n')
    prepare(Sources(**paths, items=tmp_path / "info.txt", files=FilesConfig(**names)), tmp_path / "d", PrepareConfig())
    assert Dataset.open(tmp_path / "d").catalog.titles.tolist() == ['"Heroes', "One", '"Two" Deluxe']


def _split_sources(tmp_path, items, **frame):
    pd.DataFrame(frame).to_csv(tmp_path / "split.csv", index=False)
    return Sources(**dict.fromkeys(("train", "valid", "test"), tmp_path / "split.csv"), items=items)


def test_numbers_with_a_point_in_histories_are_the_items_without(tmp_path, items):
    cells = {"user_id": ["u", "v"], "history": ["['0.0', '1']", "['2.0', '5.0']"], "item_id": [3, 5]}
    report = prepare(_split_sources(tmp_path, items, **cells), tmp_path / "d", PrepareConfig())
    assert (report.items, report.untitled_items) == (7, 1)  # "5" is not in the items file
    assert Dataset.open(tmp_path / "d").rows("train").items.tolist() == [0, 1, 2, 6]


@pytest.mark.parametrize(
    ("history", "target", "place"), [("[12, 13, 0]", 1, "histories"), ("[0, 1, 2, 4]", 12, "targets")]
)
def test_histories_and_targets_without_titles_are_told_apart(tmp_path, items, history, target, place):
    sources = _split_sources(tmp_path, items, user_id=["u", "v"], history=[history] * 2, item_id=[target] * 2)
    with pytest.raises(DataError, match=rf"no title for \d of the \d items? of the {place}, for instance '12'"):
        prepare(sources, tmp_path / "d", PrepareConfig())


def test_item_column_that_no_file_has_is_refused(tmp_path, interactions, items):
    with pytest.raises(DataError, match=r"no column 'sku' \(--item-col\)"):
        prepare(
            Sources(interactions=interactions, items=items, files=FilesConfig(item_col="sku")),
            tmp_path / "d",
            PrepareConfig(),
        )


def test_distinct_interactions_of_ready_made_splits_count_once(tmp_path, items):
    row = [("u", [0, 1], 2, [5, 5], 6)]
    paths = {name: _write_split(tmp_path / f"{name}.csv", row) for name in ("train", "valid")}
    test = _write_split(tmp_path / "test.csv", [("v", [0], 2, [5], 6)])
    report = prepare(Sources(**paths, test=test, items=items), tmp_path / "d", PrepareConfig())
    assert report.interactions == 3 + 2


def test_splits_that_decide_little_are_warned_of(tmp_path, items, caplog):
    for name, events in {
        "train": [("a", "[1]", 2)] * 3,
        "valid": [("b", "[1]", 4)],
        "test": [("b", "[1]", 2)] * 120,
    }.items():
        rows = pd.DataFrame(events, columns=["user_id", "history_item_id", "item_id"])
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    splits = {name: tmp_path / f"{name}.csv" for name in ("train", "valid", "test")}
    prepare(Sources(items=items, **splits), tmp_path / "d", PrepareConfig())
    assert "valid: 1 row: figures of so few are mostly chance" in caplog.text
    assert "valid: no target is known from training" in caplog.text
    assert "test: no target" not in caplog.text
    assert "test: 120 rows:" not in caplog.text


def test_doubled_rows_count_once_and_are_warned_of(tmp_path, items, interactions, caplog):
    pd.concat([pd.read_csv(interactions)] * 2).to_csv(interactions, index=False)
    report = prepare(Sources(interactions=interactions, items=items), tmp_path / "d", PrepareConfig())
    assert report.interactions == 22
    # 42 targets, one of events 0 and 1, two of the others; train ends between those of event 17
    assert [split.repeated_rows for split in report.splits.values()] == [15, 1, 0]
    assert "train: 15 of 33 rows repeat another (same user, target and time)" in caplog.text
    assert "valid: 1 of 4 rows are also training rows, which flatters results" in caplog.text


def test_rows_of_ready_made_splits_that_are_training_rows_too_are_counted(tmp_path, items, caplog):
    rows = {
        "train": [("u", [0], 1, [5], 6), ("v", [1], 2, [7], 8), ("u", [0], 1, [5], 6)],
        "valid": [("u", [0], 1, [5], 6), ("u", [0], 1, [5], 7)],
        "test": [("w", [0], 1, [5], 6)],
    }
    sources = Sources(
        **{name: _write_split(tmp_path / f"{name}.csv", part) for name, part in rows.items()}, items=items
    )
    report = prepare(sources, tmp_path / "timed", PrepareConfig())
    assert [split.repeated_rows for split in report.splits.values()] == [1, 1, 0]
    for name in rows:
        pd.read_csv(tmp_path / f"{name}.csv").iloc[:, :3].to_csv(tmp_path / f"{name}.csv", index=False)
    report = prepare(sources, tmp_path / "untimed", PrepareConfig())
    assert [split.repeated_rows for split in report.splits.values()] == [1, 2, 0]
    assert (
        "valid: 2 of 2 rows are also training rows, which flatters results (same user, target and history)"
        in caplog.text
    )


def test_targets_that_the_user_had_before_are_counted(tmp_path, interactions, items):
    # five items round and round, every user has each of them again from its sixth event on
    report = prepare(Sources(interactions=interactions, items=items), tmp_path / "d", PrepareConfig(max_history=1))
    assert [split.targets_in_history for split in report.splits.values()] == [8, 2, 2]


def test_columns_may_be_named(tmp_path, interactions, items):
    frame = pd.read_csv(interactions).set_axis(["klant", "artikel", "tijd"], axis=1)
    frame.to_csv(interactions, index=False, sep=";")
    files = FilesConfig(user_col="klant", item_col="artikel", time_col="tijd")
    report = prepare(Sources(interactions=interactions, items=items, files=files), tmp_path / "d", PrepareConfig())
    assert report.interactions == 22


def test_sources_must_be_complete_and_of_one_kind(items):
    with pytest.raises(ConfigError, match="exclude each other"):
        Sources(interactions=items, train=items, valid=items, test=items, items=items)
    with pytest.raises(ConfigError, match="--valid, --test is missing beside --train; --items is missing"):
        Sources(train=items)
    with pytest.raises(ConfigError, match="there is no input"):
        Sources(items=items)
    with pytest.raises(ConfigError, match="--history-col and --history-time-col are for --train"):
        Sources(interactions=items, items=items, files=FilesConfig(history_col="seq"))


def test_settings_of_the_splitter_do_not_apply_to_ready_made_splits(tmp_path, items):
    sources = Sources(train=items, valid=items, test=items, items=items)
    with pytest.raises(ConfigError, match="do not apply to ready-made splits"):
        prepare(sources, tmp_path / "d", PrepareConfig(k_core=5))


def test_existing_output_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "d").mkdir()
    with pytest.raises(ArtifactError, match="exists already"):
        prepare(Sources(interactions=tmp_path / "no", items=tmp_path / "no"), tmp_path / "d", PrepareConfig())
