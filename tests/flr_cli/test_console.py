import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from flr_cli import console
from flr_model.errors import DataError
from flr_model.steering import clean

pytestmark = pytest.mark.fault("terminal")

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u2066\x7f\r"


@pytest.fixture(autouse=True)
def _streams():
    console.setup()


def test_nothing_that_is_printed_steers_the_terminal(capsys):
    console.table(f"Title{ESCAPES}", (f"head{ESCAPES}", "n"), [(f"a{ESCAPES}", 1)])
    console.line(f"line{ESCAPES}")
    console.note(f"note{ESCAPES}")
    console.error(DataError(f"error{ESCAPES}", hint=f"hint{ESCAPES}"))
    streams = capsys.readouterr()
    for printed in streams:
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066]", printed)
    assert all(word in streams.out for word in ("Title", "head", "a\\x1b]0;owned\\x07", "line"))
    assert all(word in streams.err for word in ("note\\x1b", "error\\x1b", "hint\\x1b"))


@pytest.mark.parametrize("text", ["Amélie (2001) 东京", "👩\u200d🔬", "two\nlines", "[bold]no markup[/bold]"])
def test_other_text_stays(text, capsys):
    assert clean(text) == text
    console.line(text)
    assert capsys.readouterr().out == text + "\n"


def test_a_cell_stays_on_its_line(capsys):
    console.table("T", ("a",), [("one\nerror: two",)])
    assert "\nerror" not in capsys.readouterr().out


def test_json_is_ascii_and_has_null_for_what_json_lacks(capsys):
    console.emit_json({"title": "Звезда\x9b", "figures": np.asarray([1.0, np.nan])})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert json.loads(printed) == {"title": "Звезда\x9b", "figures": [1.0, None]}


def test_quiet_leaves_warnings_and_the_log_file_has_all(tmp_path, capsys):
    console.setup(quiet=True, log_file=tmp_path / "flr.log")
    console.note("a note")
    console.error(DataError("an error", hint="a hint"))
    assert capsys.readouterr().err == "error: an error\ntry: a hint\n"
    kept = (tmp_path / "flr.log").read_text()
    assert re.search(r"^\d{4}-.* INFO a note\n\d{4}-.* ERROR an error\ntry: a hint\n$", kept)


def test_a_message_that_nobody_reads_does_not_stop_the_work(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    stream = console._Stream(file=Closed())
    monkeypatch.setattr(console, "err", stream)
    console.note("unheard")
    console.note("unheard")
    assert stream.quiet


def test_markup_and_numbers_of_tables(capsys, monkeypatch):
    monkeypatch.setattr(console, "out", Console(width=40))
    console.table("[i]T[/i]", ("name", "value"), [("[b]x[/b]", 1234), ("y", 0.5)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "[i]T[/i]"
    assert lines[3].split() == ["[b]x[/b]", "│", "1,234"]
    assert lines[4].split() == ["y", "│", "0.5000"]
