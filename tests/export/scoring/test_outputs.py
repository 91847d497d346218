import json
from pathlib import Path

import pytest

from flr_export.scoring import outputs
from flr_export.scoring.outputs import Counts, claimed
from flr_export.scoring.score import score_file
from flr_export.scoring.sinks import fresh
from flr_model.artifacts import Manifest
from flr_model.config import ScoreConfig
from flr_model.errors import ArtifactError, ConfigError, NothingToDo
from flr_model.writing import FILE, claim
from tests.export.toy import ToyReader, toy_recommender

pytestmark = pytest.mark.fault("outputs")

CONFIG = ScoreConfig(top_k=2, batch_size=4, threads=1)
SOME_REJECTED = "user_id,history\n" + "".join(f"u{n},{'x' if n % 7 == 3 else 'abcdef'[n % 6]}\n" for n in range(50))


class Stopping(ToyReader):
    """Fails when it is asked for the sixth time."""

    calls = 0

    def read(self, *given):
        self.calls += 1
        if self.calls > 5:
            raise RuntimeError("killed")
        return super().read(*given)


@pytest.fixture
def histories(tmp_path):
    (tmp_path / "h.csv").write_text(SOME_REJECTED)
    return tmp_path / "h.csv"


@pytest.fixture(autouse=True)
def _save_every_chunk(monkeypatch):
    monkeypatch.setattr(outputs, "SAVE_SECONDS", 0)


def score(histories, out, *, reader=None, **given):
    return score_file(toy_recommender(reader), histories, Path(out), config=CONFIG, **given)


def interrupt(histories, out):
    with pytest.raises(RuntimeError, match="killed"):
        score(histories, out, reader=Stopping())


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", ["r.csv.gz", "r.jsonl", "r.tsv", "r.parquet.zst", "r.xlsx", "r.csv.tmp"])
def test_a_name_that_promises_another_form_is_refused(histories, tmp_path, name):
    before = content(tmp_path)
    with pytest.raises(ConfigError, match=f"{name}: a result is written as CSV or Parquet") as caught:
        score(histories, tmp_path / name)
    assert ".csv or .parquet" in caught.value.hint
    assert content(tmp_path) == before


@pytest.mark.parametrize(("name", "start"), [("r.csv", b"user_id,"), ("r", b"user_id,"), ("R.PARQUET", b"PAR1")])
def test_other_names_get_the_form_that_they_promise(histories, tmp_path, name, start):
    score(histories, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_minus_is_no_file(histories, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="names no file"):
        score(histories, "-")
    assert content(tmp_path).keys() == {"h.csv"}


def test_a_link_is_followed_and_its_rejects_lie_beside_what_it_leads_to(histories, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real.csv").write_text("old")
    (tmp_path / "r.csv").symlink_to(tmp_path / "there" / "real.csv")
    report = score(histories, tmp_path / "r.csv", overwrite=True)
    assert (tmp_path / "r.csv").is_symlink()
    assert report.rejects == tmp_path / "there" / "real.csv.rejects.csv"
    assert content(tmp_path / "there").keys() == {"real.csv", "real.csv.rejects.csv"}
    assert (tmp_path / "r.csv").read_text().startswith("user_id,")


def test_the_rejects_and_the_bundle_are_protected_as_the_result_is(histories, tmp_path):
    (tmp_path / "r.csv.rejects.csv").write_text(SOME_REJECTED)
    (tmp_path / "bundle").mkdir()
    Manifest("bundle").write(tmp_path / "bundle")
    before = content(tmp_path), content(tmp_path / "bundle")
    for out, given, relation in [
        (tmp_path / "r.csv", {"items": tmp_path / "r.csv.rejects.csv"}, "is an input"),
        (tmp_path / "bundle" / "items.csv", {"bundle": tmp_path / "bundle"}, "lies in"),
    ]:
        with pytest.raises(ConfigError, match=relation), claimed(out, {}, inputs=given.values(), overwrite=True):
            pass
    with pytest.raises(ConfigError, match=r"r\.csv\.rejects\.csv cannot be an output: it is an input"):
        score(tmp_path / "r.csv.rejects.csv", tmp_path / "r.csv", overwrite=True)
    assert (content(tmp_path), content(tmp_path / "bundle")) == before


def test_links_at_the_names_of_temporary_files_are_not_written_through(histories, tmp_path):
    (tmp_path / "victim").write_text("victim")
    for name in (".r.csv.part", ".r.csv.rejects.csv.part", ".r.csv.state.json", ".r.csv.state.tmp"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    score(histories, tmp_path / "r.csv")
    assert (tmp_path / "victim").read_text() == "victim"
    assert not (tmp_path / "r.csv").is_symlink()


def test_a_part_file_that_became_a_link_is_not_gone_on_with(histories, tmp_path):
    interrupt(histories, tmp_path / "r.csv")
    (tmp_path / "victim").write_text("victim" * 1000)
    (tmp_path / ".r.csv.part").unlink()
    (tmp_path / ".r.csv.part").symlink_to(tmp_path / "victim")
    with pytest.raises(ConfigError, match="cannot resume"):
        score(histories, tmp_path / "r.csv", resume=True)
    assert (tmp_path / "victim").read_text() == "victim" * 1000


@pytest.mark.fault("two processes")
def test_a_second_score_of_the_same_result_or_rejects_is_refused(histories, tmp_path):
    for taken in ("r.csv", "r.csv.rejects.csv"):
        with claim(tmp_path / taken, FILE):
            with pytest.raises(ArtifactError, match="another process of flr is writing"):
                score(histories, tmp_path / "r.csv")
            score(histories, tmp_path / f"{taken}-other.csv")
    score(histories, tmp_path / "r.csv")


def test_resume_of_a_finished_result_says_so_and_leaves_it(histories, tmp_path):
    score(histories, tmp_path / "r.csv")
    before = content(tmp_path)
    with pytest.raises(NothingToDo, match=r"r\.csv is finished: nothing to resume") as caught:
        score(histories, tmp_path / "r.csv", resume=True)
    assert "--overwrite" in caught.value.hint
    assert content(tmp_path) == before
    score(histories, tmp_path / "r.csv", resume=True, overwrite=True)
    assert content(tmp_path) == before


@pytest.mark.fault("damaged")
@pytest.mark.parametrize("field", ["identity", "done", "bytes", "rejects_bytes", "counts"])
@pytest.mark.parametrize("value", [None, -1, "x", [], {"users": 3, "more": 1}])
def test_a_damaged_state_is_an_error_not_a_result(histories, tmp_path, field, value):
    interrupt(histories, tmp_path / "r.csv")
    path = tmp_path / ".r.csv.state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises((ArtifactError, ConfigError), match=r"is damaged|changed since|cannot resume"):
        score(histories, tmp_path / "r.csv", resume=True)
    assert not (tmp_path / "r.csv").exists()


@pytest.mark.fault("damaged")
@pytest.mark.parametrize("text", ["", "[]", "3", "{}", "null"])
def test_a_state_that_is_no_state_is_an_error(histories, tmp_path, text):
    interrupt(histories, tmp_path / "r.csv")
    (tmp_path / ".r.csv.state.json").write_text(text)
    with pytest.raises(ArtifactError, match="is damaged"):
        score(histories, tmp_path / "r.csv", resume=True)


def test_a_place_that_cannot_be_written_is_refused_before_the_input_is_scored(histories, tmp_path):
    (tmp_path / "file").write_text("")
    reader = Stopping()
    with pytest.raises(ArtifactError, match="cannot be written"):
        score(histories, tmp_path / "file" / "r.csv", reader=reader)
    assert reader.calls == 0


def test_a_fresh_file_replaces_a_link_and_keeps_what_it_led_to(tmp_path):
    (tmp_path / "victim").write_text("victim")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with fresh(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "victim").read_text() == "victim"
    assert not (tmp_path / "link").is_symlink()


def test_counts_of_a_state_are_those_that_were_saved(histories, tmp_path):
    interrupt(histories, tmp_path / "r.csv")
    saved = Counts(**json.loads((tmp_path / ".r.csv.state.json").read_text())["counts"])
    assert score(histories, tmp_path / "r.csv", resume=True).resumed_from == saved.users > 0
