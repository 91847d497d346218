"""A run goes on with new interactions: what it knows, what it learns, and when it is refused."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")

from flr_model.artifacts import open_folder
from flr_model.config import FilesConfig, PrepareConfig, UpdateConfig
from flr_model.data.dataset import Dataset
from flr_model.data.prepare import Sources, prepare
from flr_model.errors import ArtifactError, ConfigError, DataError, GateError
from flr_model.nn.run import load_run
from flr_model.training import update as module
from flr_model.training.onward import with_new_items
from flr_model.training.sft import train
from flr_model.training.update import update
from tests.builders import TITLES, reseal, tiny_model, tiny_train, write_raw_files

NEW = "red waltz evenings"
COLUMNS = {"user_id": "who", "item_id": "what", "timestamp": "day bought"}


def _german(table):
    days = pd.to_datetime(table.timestamp, unit="s").dt.strftime("%d.%m.%Y %H:%M:%S")
    return table.assign(timestamp=days).rename(columns=COLUMNS)


@pytest.fixture(scope="module")
def shop(tmp_path_factory, tiny_backbone):
    """A shop of odd columns: orders until a day and a run of them; later ones, all orders, and items with a new one."""
    folder = write_raw_files(tmp_path_factory.mktemp("shop"), users=90)
    orders, items = pd.read_csv(folder / "interactions.csv"), pd.read_csv(folder / "items.csv")
    cut = int(len(orders) * 0.7)
    day = orders.timestamp.iloc[cut]
    late = orders.iloc[cut:].copy()
    late.loc[late.index[::5], "item_id"] = "new"
    before, everything = _german(orders.iloc[:cut]), _german(pd.concat([orders.iloc[:cut], late]))
    assert (late.timestamp >= day).all()
    before.to_csv(folder / "before.csv", index=False)
    _german(late).to_csv(folder / "since.csv", index=False)
    everything.to_csv(folder / "everything.csv", index=False)
    pd.concat([items, pd.DataFrame({"item_id": ["new"], "title": [NEW]})]).to_csv(folder / "grown.csv", index=False)
    files = FilesConfig(user_col="who", item_col="what,items=item_id", time_col="day bought")
    sources = Sources(interactions=folder / "before.csv", items=folder / "items.csv", files=files)
    prepare(sources, folder / "data", PrepareConfig(max_history=7))
    train(folder / "data", folder / "run", model=tiny_model(tiny_backbone), train=tiny_train())
    return folder


@pytest.fixture(scope="module")
def updated(shop):
    out = shop / "updated"
    report = update(
        shop / "run", shop / "everything.csv", out, items=shop / "grown.csv", config=UpdateConfig(max_loss=1.0)
    )
    return out, report


def test_new_rows_are_read_as_the_old_ones_were_and_the_newest_are_held_out(shop, updated):
    out, report = updated
    old, new = Dataset.open(shop / "data"), Dataset.of(open_folder(out, "run"))
    assert new.folder == (shop / "updated-data").resolve()
    assert new.manifest.settings["files"] == old.manifest.settings["files"]
    assert new.manifest.settings["prepare"]["max_history"] == 7
    assert new.manifest.content["reading"]["interactions"] == old.manifest.content["reading"]["interactions"]
    rows = {split: len(new.rows(split)) for split in ("train", "valid", "test")}
    known = sum(len(old.rows(split)) for split in rows)
    assert sum(rows.values()) == known + report.new_rows
    assert rows["test"] == report.newest == pytest.approx(report.new_rows / 4, abs=1)
    assert rows["valid"] == pytest.approx(report.new_rows / 4, abs=1)
    assert new.rows("test").target_time.min() >= new.rows("train").target_time.max()
    assert new.rows("train").lengths.max() == 7


def test_the_new_part_alone_gives_the_same_rows_as_everything(shop, updated):
    out = shop / "from-new"
    update(shop / "run", shop / "since.csv", out, items=shop / "grown.csv", config=UpdateConfig(max_loss=1.0))
    whole, part = (Dataset.of(open_folder(folder, "run")) for folder in (updated[0], out))
    assert whole.catalog.item_ids.tolist() == part.catalog.item_ids.tolist()
    for split in ("train", "valid", "test"):
        a, b = whole.rows(split), part.rows(split)
        assert sorted(zip(a.user_id, a.target, a.target_time, strict=True)) == sorted(
            zip(b.user_id, b.target, b.target_time, strict=True)
        )


def test_before_it_learns_the_run_knows_what_it_knew(shop, updated, monkeypatch):
    begun = {}

    def look(recommender, rows, *_, **__):
        begun["vectors"], begun["state"] = recommender.items.frozen(), recommender.state_dict()
        begun["degree"] = recommender.head.evidence.events.degree
        return 0

    monkeypatch.setattr(module, "go_on", look)
    update(
        shop / "run", shop / "since.csv", shop / "begun", items=shop / "grown.csv", config=UpdateConfig(max_loss=1.0)
    )
    run = load_run(shop / "run")
    n = len(run.catalog)
    np.testing.assert_array_equal(begun["vectors"][:n], run.vectors)
    np.testing.assert_allclose(begun["vectors"][n:], run.item_encoder.encode_titles([NEW]), atol=1e-6)
    for name, value in run.model.state_dict().items():
        np.testing.assert_array_equal(begun["state"][f"model.{name}"], value)
    assert begun["degree"][:n].sum() > 0 < begun["degree"][n]


def test_a_new_item_is_ranked_and_counted_and_the_rest_has_learned(shop, updated):
    out, report = updated
    before, after = load_run(shop / "run"), load_run(out)
    assert report.new_items == 1
    assert after.catalog.item_ids.tolist() == [*before.catalog.item_ids.tolist(), "new"]
    assert after.catalog.titles[-1] == NEW
    assert after.evidence.indptr[-1] > after.evidence.indptr[-2]
    test = Dataset.of(after.manifest).rows("test")
    new = len(before.catalog)
    buyers = test.select(test.target == new)
    in_use = with_new_items(before, after.catalog)
    ranks = [(r.scores(buyers) >= r.scores(buyers)[:, [new]]).sum(1).mean() for r in (in_use, after.recommender())]
    assert ranks[1] < ranks[0]
    assert report.steps >= 1
    assert (after.head.decoder.item_map != before.head.decoder.item_map).any()
    names = dict(before.model.encoder.trunk.named_parameters())
    for name, weight in after.model.encoder.trunk.named_parameters():
        np.testing.assert_array_equal(weight, names[name])


def test_the_written_run_ranks_as_the_report_says(updated):
    from flr_model.config import EvalConfig
    from flr_model.evaluation.evaluate import evaluate_with_baselines

    out, report = updated
    run = load_run(out)
    measured = evaluate_with_baselines(run.recommender(), Dataset.of(run.manifest), EvalConfig(bootstrap=0))
    assert measured.model.metrics["NDCG@10"] == pytest.approx(report.after["NDCG@10"], abs=1e-4)
    assert json.loads(json.dumps(run.manifest.content["update"]))["newest"] == report.newest


def test_a_worse_run_is_refused_and_leaves_nothing(shop, monkeypatch):
    def spoil(recommender, *_, **__):
        recommender.items.scale.data.mul_(-50)
        return 1

    monkeypatch.setattr(module, "go_on", spoil)
    present = sorted(path.name for path in shop.iterdir())
    with pytest.raises(GateError, match=r"worse than .*run: NDCG@10 \.?\d.* after .*95 %") as caught:
        update(
            shop / "run", shop / "since.csv", shop / "worse", items=shop / "grown.csv", config=UpdateConfig(max_loss=0)
        )
    assert caught.value.exit_code == 4
    assert sorted(path.name for path in shop.iterdir()) == present


def test_the_next_week_starts_from_the_updated_run(shop, updated):
    out, _ = updated
    orders = pd.read_csv(shop / "since.csv").tail(40).copy()
    orders["day bought"] = orders["day bought"].str.replace(r"\.202\d ", ".2022 ", regex=True)
    orders.to_csv(shop / "next.csv", index=False)
    report = update(out, shop / "next.csv", shop / "third", config=UpdateConfig(max_loss=1.0))
    assert report.new_rows == 40
    assert report.new_items == 0
    assert len(load_run(shop / "third").catalog) == len(TITLES) + 1


def test_what_cannot_go_on_is_refused_in_words(shop, updated, tmp_path):
    def refused(error, match, *, source=shop / "run", interactions=shop / "since.csv", **more):
        with pytest.raises(error, match=match):
            update(source, interactions, tmp_path / "out", config=UpdateConfig(), **more)
        assert not list(tmp_path.iterdir())

    refused(DataError, "1 item of the interactions are new, for instance new, and have no titles")
    refused(DataError, "no row that .* lacks", interactions=shop / "before.csv", items=shop / "grown.csv")
    refused(ArtifactError, "has 61 items, the model was made for 60", data=shop / "updated-data")
    with pytest.raises(ConfigError, match="it is an input of this command"):
        update(shop / "run", shop / "since.csv", shop / "data", config=UpdateConfig(), overwrite=True)


@pytest.mark.parametrize(
    ("config", "files", "match"),
    [
        (PrepareConfig(split="leave-one-out"), FilesConfig(), "no newest rows: it was prepared with --split leave-one"),
        (PrepareConfig(), FilesConfig(time=False), "prepared without times: what is newest cannot be told"),
    ],
)
def test_a_dataset_without_newest_rows_is_refused(tmp_path, tiny_raw, tiny_run, config, files, match):
    sources = Sources(interactions=tiny_raw / "interactions.csv", items=tiny_raw / "items.csv", files=files)
    prepare(sources, tmp_path / "data", config)
    with pytest.raises(ArtifactError, match=match):
        update(tiny_run, tiny_raw / "interactions.csv", tmp_path / "out", data=tmp_path / "data", config=UpdateConfig())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_dataset_that_keeps_no_interactions_is_refused(tmp_path, tiny_raw, tiny_run, tiny_dataset):
    shutil.copytree(tiny_dataset, tmp_path / "data")
    (tmp_path / "data" / "interactions.parquet").unlink()
    reseal(tmp_path / "data")
    with pytest.raises(ArtifactError, match=r"data does not keep its interactions: it is of ready-made splits"):
        update(tiny_run, tiny_raw / "interactions.csv", tmp_path / "out", data=tmp_path / "data", config=UpdateConfig())


@pytest.fixture(scope="module")
def later(tmp_path_factory, tiny_raw):
    """Orders of a year after those of `tiny_raw`, and one of them new: an item, with its title beside it."""
    orders = pd.read_csv(tiny_raw / "interactions.csv").tail(60)
    orders["timestamp"] += 366 * 86_400
    orders["title"] = orders.item_id.str[1:].astype(int).map(TITLES.__getitem__)
    orders.iloc[::6, [1, 3]] = "new", NEW
    path = tmp_path_factory.mktemp("later") / "later.csv"
    orders.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("kind", ["tiny_text_run", "tiny_title_run"])
def test_other_encodings_and_decoders_go_on_too(tmp_path, later, kind, request):
    report = update(
        request.getfixturevalue(kind), later, tmp_path / "out", config=UpdateConfig(max_loss=1.0, max_rows=32)
    )
    assert report.new_items == 1
    assert report.rows == 32
    after = load_run(tmp_path / "out")
    recommended = after.recommender().recommend(Dataset.of(after.manifest).rows("test").select(slice(0, 4)), 61)
    assert (recommended.items == 60).any()


def test_a_bundle_stands_for_its_run(tmp_path, later, tiny_run):
    pytest.importorskip("onnx")
    from tests.export.toy import write_toy_bundle

    known = open_folder(tiny_run, "run").content
    bundle = write_toy_bundle(tmp_path / "bundle")
    reseal(bundle, source=str(tiny_run), content={"dataset_fingerprint": known["dataset_fingerprint"]})
    update(bundle, later, tmp_path / "out", config=UpdateConfig(max_loss=1.0, max_rows=32))
    assert open_folder(tmp_path / "out", "run").source == str(tiny_run)
    reseal(bundle, content={"dataset_fingerprint": "another"})
    with pytest.raises(ArtifactError, match="is another run than the one that"):
        update(bundle, later, tmp_path / "again", config=UpdateConfig())
    reseal(bundle, source=str(tmp_path / "gone"))
    with pytest.raises(ArtifactError, match=r"the run .*gone that the bundle .* was made of is gone"):
        update(bundle, later, tmp_path / "again", config=UpdateConfig())
