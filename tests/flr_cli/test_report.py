"""`flr report` from the command line."""

import shutil
import sys

import pytest

from flr_cli.app import main


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy that tests may write into."""
    return shutil.copytree(tiny_run, tmp_path / "run")


def report(*sources, html, more=()):
    return main(["report", *map(str, sources), "--html", str(html), *more])


def test_two_runs_make_one_page(run, tmp_path, capsys):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    other, html = shutil.copytree(run, tmp_path / "other"), tmp_path / "out.html"
    for source in (run, other):
        assert main(["eval", str(source), "--max-rows", "20", "--bootstrap", "10", "--json"]) == 0
    capsys.readouterr()
    assert report(run, other, html=html) == 0
    assert "wrote" in capsys.readouterr().err
    page = html.read_text(encoding="utf-8")
    assert "Equal to other in every row" in page
    assert "Validation NDCG@10 by epoch. run: epoch 0 " in page
    assert page.count('<section class="user">') == 10
    assert report(run, other, html=html) == 3
    assert "--overwrite" in capsys.readouterr().err
    assert report(run, other, html=html, more=["--overwrite"]) == 0


def test_runs_of_one_name_are_told_apart_by_their_paths(run, tmp_path, capsys):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    (tmp_path / "b").mkdir()
    other, html = shutil.copytree(run, tmp_path / "b" / "run"), tmp_path / "out.html"
    for source, more in ((other, []), (run, ["--against", str(other)])):
        assert main(["eval", str(source), "--max-rows", "5", "--bootstrap", "10", *more]) == 0
    assert report(run, html=html) == 0
    assert f"Equal to {other} (the best of the 3 beside it) in every row" in html.read_text(encoding="utf-8")
    assert report(run, other, html=html, more=["--overwrite"]) == 0
    page = html.read_text(encoding="utf-8")
    assert f"<td><bdi>{run}</bdi></td>" in page
    assert page.count(f"<td><bdi>{other}</bdi></td>") == 1  # and not once more as what `run` was evaluated against


def test_a_run_without_an_evaluation_names_the_command(run, tmp_path, capsys):
    assert report(run, html=tmp_path / "out.html") == 3
    assert f"flr eval {run} --split test" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out.html").exists()


def test_what_is_no_page_is_refused(run, tmp_path, capsys):
    assert report(run, html=tmp_path / "out.pdf") == 2
    assert "ends in .html" in " ".join(capsys.readouterr().err.split())


def test_a_run_that_is_there_twice_is_refused(run, tmp_path, capsys):
    assert main(["eval", str(run), "--max-rows", "5", "--bootstrap", "0"]) == 0
    assert report(run, run, html=tmp_path / "out.html") == 2
    assert "is there twice" in " ".join(capsys.readouterr().err.split())


def test_without_the_library_the_extra_is_named(run, tmp_path, monkeypatch, capsys):
    for module in [name for name in sys.modules if name.startswith("flr_model.report.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert report(run, html=tmp_path / "out.html") == 1
    assert '[report]"' in capsys.readouterr().err
