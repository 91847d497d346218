import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from flr_export.scoring import outputs
from flr_export.scoring.score import score_file
from flr_model.artifacts import Manifest
from flr_model.config import ScoreConfig
from flr_model.errors import ConfigError, FlrError
from tests.export.toy import ToyReader, toy_recommender

pytestmark = pytest.mark.fault("killed")

ROOT = Path(__file__).parents[3]
N_USERS = 50
CONFIG = ScoreConfig(top_k=2, batch_size=4)
IN_ORDER = replace(CONFIG, threads=1)  # several workers may ask the reader for a later chunk first


class StoppingReader(ToyReader):
    """Raises an error when it is asked for the n-th time."""

    def __init__(self, calls, error):
        self.calls, self.error = calls, error

    def read(self, histories, vectors, titles):
        self.calls -= 1
        if self.calls < 0:
            raise self.error
        return super().read(histories, vectors, titles)


@pytest.fixture
def histories(tmp_path):
    lines = [f"u{i},{'x' if i % 7 == 3 else 'abcdef'[i % 6]}\n" for i in range(N_USERS)]
    (tmp_path / "h.csv").write_text("user_id,history\n" + "".join(lines))
    return tmp_path / "h.csv"


@pytest.fixture
def expected(tmp_path, histories):
    return score(histories, "whole.csv")


@pytest.fixture(autouse=True)
def _save_every_chunk(monkeypatch):
    monkeypatch.setattr(outputs, "SAVE_SECONDS", 0)


def score(histories, name="recs.csv", *, reader=None, config=CONFIG, **given):
    out = histories.with_name(name)
    score_file(toy_recommender(reader), histories, out, config=config, **given)
    return out.read_bytes(), out.with_name(name + ".rejects.csv").read_bytes()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("calls", [1, 2, 5, 12])
def test_resumed_result_has_the_bytes_of_an_uninterrupted_one(histories, expected, calls):
    with pytest.raises(RuntimeError):
        score(histories, reader=StoppingReader(calls, RuntimeError()))
    assert not histories.with_name("recs.csv").exists()
    assert score(histories, resume=True) == expected
    results = [f"{name}.csv{end}" for name in ("recs", "whole") for end in ("", ".rejects.csv")]
    assert names(histories.parent) == ["h.csv", *results]


def test_what_a_kill_left_behind_the_saved_state_is_cut_off(histories, expected):
    with pytest.raises(RuntimeError):
        score(histories, reader=StoppingReader(6, RuntimeError()))
    for name in (".recs.csv.part", ".recs.csv.rejects.csv.part"):
        with histories.with_name(name).open("ab") as file:
            file.write(b"u16,1,half of a li")
    assert score(histories, resume=True) == expected


def test_resume_does_not_repeat_what_is_done(histories):
    with pytest.raises(RuntimeError):
        score(histories, reader=StoppingReader(9, RuntimeError()), config=IN_ORDER)
    state = json.loads(histories.with_name(".recs.csv.state.json").read_text())
    report = score_file(toy_recommender(), histories, histories.with_name("recs.csv"), config=IN_ORDER, resume=True)
    assert report.resumed_from == state["counts"]["users"] == 32  # the first call asks for K, eight chunks follow
    assert report.users == N_USERS


def test_without_resume_a_run_starts_over(histories, expected):
    with pytest.raises(RuntimeError):
        score(histories, reader=StoppingReader(6, RuntimeError()))
    assert score(histories) == expected


def test_resume_without_an_interrupted_run_starts_anew(histories, expected):
    assert score(histories, resume=True) == expected


def test_ctrl_c_ends_with_a_hint_and_can_be_resumed(histories, expected):
    with pytest.raises(FlrError, match="stopped after 20 users") as caught:
        score(histories, reader=StoppingReader(6, KeyboardInterrupt()), config=IN_ORDER)
    assert caught.value.exit_code == 130
    assert "--resume" in caught.value.hint
    assert score(histories, config=IN_ORDER, resume=True) == expected


@pytest.mark.parametrize("moves", [0, 1])
def test_kill_while_the_finished_files_are_moved_is_resumed(histories, expected, monkeypatch, moves):
    allowed = iter(range(moves))

    def move(part, place):
        if next(allowed, None) is None:
            raise RuntimeError
        os.replace(part, place)

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "_move", move)
        with pytest.raises(RuntimeError):
            score(histories)
    assert score(histories, resume=True) == expected


def test_kill_after_the_finished_files_are_moved_is_resumed(histories, expected, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", lambda path, missing_ok=False: None)
        score(histories)
    assert histories.with_name(".recs.csv.state.json").exists()
    assert score(histories, resume=True) == expected
    assert not histories.with_name(".recs.csv.state.json").exists()


def test_resume_with_other_settings_or_input_is_refused(histories):
    with pytest.raises(RuntimeError):
        score(histories, reader=StoppingReader(6, RuntimeError()))
    with pytest.raises(ConfigError, match="changed since the interrupted run: settings"):
        score(histories, config=ScoreConfig(top_k=3, batch_size=4), resume=True)
    with histories.open("a") as file:
        file.write("late,a\n")
    with pytest.raises(ConfigError, match="changed since the interrupted run: the histories"):
        score(histories, resume=True)


def test_resume_with_another_bundle_is_refused(histories):
    for name in ("one", "two"):
        histories.with_name(name).mkdir()
        Manifest("bundle", content={"metrics": name}).write(histories.with_name(name))
    with pytest.raises(RuntimeError):
        score(histories, reader=StoppingReader(6, RuntimeError()), bundle=histories.with_name("one"))
    with pytest.raises(ConfigError, match="changed since the interrupted run: the bundle"):
        score(histories, bundle=histories.with_name("two"), resume=True)
    assert score(histories, bundle=histories.with_name("one"), resume=True)


def test_resume_with_another_number_of_threads_gives_the_same_bytes(histories, expected):
    with pytest.raises(RuntimeError):
        score(histories, reader=StoppingReader(6, RuntimeError()), config=IN_ORDER)
    assert score(histories, config=replace(CONFIG, threads=2), resume=True) == expected


def test_long_form_is_resumed_behind_its_broken_lines(tmp_path):
    lines = [f"u{i % 17},{'abcdef'[i % 5]},{'soon' if i % 9 == 4 else i}\n" for i in range(60)]
    (tmp_path / "h.csv").write_text("user_id,item_id,timestamp\n" + "".join(lines))
    expected = score(tmp_path / "h.csv", "whole.csv")
    for calls in (2, 3, 4):
        with pytest.raises(RuntimeError):
            score(tmp_path / "h.csv", reader=StoppingReader(calls, RuntimeError()), overwrite=True)
        assert score(tmp_path / "h.csv", resume=True, overwrite=True) == expected


@pytest.mark.fault("damaged")
def test_resume_of_a_shortened_part_is_refused(histories):
    with pytest.raises(RuntimeError):
        score(histories, reader=StoppingReader(6, RuntimeError()))
    histories.with_name(".recs.csv.part").write_bytes(b"")
    with pytest.raises(ConfigError, match="gone or cut short"):
        score(histories, resume=True)


def test_parquet_cannot_be_resumed(histories):
    with pytest.raises(ConfigError, match="--resume works for CSV"):
        score(histories, "recs.parquet", resume=True)


def test_interrupted_parquet_run_leaves_nothing(histories):
    before = names(histories.parent)
    with pytest.raises(FlrError) as caught:
        score(histories, "recs.parquet", reader=StoppingReader(6, KeyboardInterrupt()))
    assert "--resume" not in caught.value.hint
    assert names(histories.parent) == before


SCRIPT = """
import signal, sys, time
from pathlib import Path
from flr_export.scoring import outputs
from flr_export.scoring.score import score_file
from flr_model.artifacts import Manifest
from flr_model.config import ScoreConfig
from tests.export.toy import ToyReader, toy_recommender

class Slow(ToyReader):
    def read(self, *given):
        time.sleep(0.1)
        return super().read(*given)

# A shell that starts the tests in the background makes them ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
outputs.SAVE_SECONDS = 0
path = Path(sys.argv[1])
score_file(toy_recommender(Slow()), path, path.with_name("recs.csv"), config=ScoreConfig(top_k=2, batch_size=4),
           resume=True)
"""


def start(histories):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(histories)], env=environment, stderr=subprocess.PIPE)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_process_is_resumed_to_the_same_bytes(histories, expected, number):
    process = start(histories)
    state, until = histories.with_name(".recs.csv.state.json"), time.monotonic() + 60
    while not state.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert number != signal.SIGINT or b"stopped after" in errors
    assert not histories.with_name("recs.csv").exists()
    assert score(histories, resume=True) == expected
