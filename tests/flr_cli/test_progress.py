import io
import re

import pytest
from rich.console import Console

from flr_cli import console, progress
from flr_cli.progress import ConsoleProgress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 80 columns, and what was drawn on it."""
    drawn = io.StringIO()
    screen = Console(file=drawn, force_terminal=True, width=80, color_system=None, _environ={"TERM": "xterm"})
    monkeypatch.setattr(console, "err", screen)
    monkeypatch.setattr(progress, "err", screen)
    console.setup()
    return drawn


def run(clock, seconds, steps=10, amount=10, **figures):
    with ConsoleProgress().task(steps * amount, "titles") as task:
        for _ in range(steps):
            clock[0] += seconds
            task.advance(amount, **figures)


def test_a_short_job_without_a_terminal_says_nothing(clock, capsys):
    console.setup()
    run(clock, 0.4)
    assert capsys.readouterr().err == ""


def test_a_long_job_without_a_terminal_is_a_line_every_tenth_with_the_time_left(clock, capsys):
    console.setup()
    run(clock, 6.0, loss=1.5)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[4] == "titles: 50 of 100 (50%), 1.7/s, 30 s left, loss 1.5000"
    assert lines[-1] == "titles: 100 in 1:00 min"


def test_a_very_long_job_is_a_line_every_half_minute(clock, capsys):
    console.setup()
    run(clock, 10.0, steps=60)
    assert len(capsys.readouterr().err.splitlines()) == 21


def test_what_a_resumed_job_counts_at_once_does_not_count_as_speed(clock, capsys):
    console.setup()
    with ConsoleProgress().task(1000, "rows") as task:
        task.advance(900)
        clock[0] += 40
        task.advance(40)
    assert capsys.readouterr().err.splitlines()[0] == "rows: 940 of 1,000 (94%), 1.0/s, 1:00 min left"


def test_quiet_is_silent_and_the_log_file_has_the_lines(clock, tmp_path, capsys):
    console.setup(quiet=True, log_file=tmp_path / "log")
    run(clock, 6.0)
    assert capsys.readouterr().err == ""
    assert len((tmp_path / "log").read_text().splitlines()) == 11


def test_on_a_terminal_bars_fit_and_go_away_also_after_an_error(terminal):
    shown = ConsoleProgress()

    def fail():
        with shown.task(123_456, "validation rows") as task:
            for _ in range(3):
                task.advance(40_000, **{"loss": 1.234567, "valid NDCG@10": 0.0712345})
                shown.bars.refresh()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not shown.bars.tasks
    frames = re.split("[\r\n]", re.sub(r"\x1b\[[0-9?]*[A-Za-z]", "\r", terminal.getvalue()))
    drawn = [frame for frame in frames if "validation rows" in frame]
    assert any("120000/123456" in frame and "loss 1.2346" in frame for frame in drawn)
    assert max(len(frame.rstrip()) for frame in frames) <= 80
    assert frames[-1].strip() == ""


def test_jobs_may_be_nested(terminal):
    shown = ConsoleProgress()
    with shown.task(2, "outer") as outer:
        with shown.task(None, "inner") as inner:
            inner.advance(5)
        outer.advance(2)
        assert len(shown.bars.tasks) == 1
    assert not shown.bars.live.is_started
