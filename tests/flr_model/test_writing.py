import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flr_model import replacing
from flr_model.artifacts import DATASET, RUN, Manifest
from flr_model.errors import ArtifactError, ConfigError
from flr_model.replacing import lock_of
from flr_model.writing import FILE, Claim, check_target, claim

pytestmark = pytest.mark.fault("outputs")

ROOT = Path(__file__).parents[2]


def make(folder, kind="dataset"):
    folder.mkdir()
    (folder / "old").write_text("old")
    Manifest(kind).write(folder)
    return folder


@pytest.fixture
def dataset(tmp_path):
    return make(tmp_path / "data")


@pytest.fixture(params=["exchange", "two renames"])
def way(request, monkeypatch):
    """Both ways to replace a folder."""
    if request.param == "two renames":
        monkeypatch.setattr(replacing, "exchange", lambda one, other: False)
    return request.param


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def renew(path, **given):
    with claim(path, "dataset", overwrite=True, **given) as place, place.folder() as folder:
        (folder / "new").write_text("new")
        Manifest("dataset").write(folder)


def stop_in_the_middle(writer):
    with writer as path:
        (path / "half" if path.is_dir() else path).write_text("half")
        raise RuntimeError


def test_an_existing_result_is_not_replaced_unasked(dataset):
    with pytest.raises(ArtifactError, match="exists already") as caught, claim(dataset, "dataset"):
        pass
    assert "--overwrite" in caught.value.hint
    check_target(dataset, "dataset", overwrite=True)


def test_a_folder_replaces_the_old_one_whole(dataset, way):
    renew(dataset)
    assert names(dataset) == ["manifest.json", "new"]
    assert names(dataset.parent) == ["data"]


@pytest.mark.fault("killed")
def test_a_failed_block_leaves_the_old_folder_and_nothing_else(dataset, way):
    with pytest.raises(RuntimeError), claim(dataset, "dataset", overwrite=True) as place:
        stop_in_the_middle(place.folder())
    assert names(dataset) == ["manifest.json", "old"]
    assert names(dataset.parent) == ["data"]


def test_a_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    with pytest.raises(RuntimeError), claim(path, FILE) as place:
        stop_in_the_middle(place.file())
    assert names(tmp_path) == []
    with claim(path, FILE) as place, place.file() as new:
        new.write_text("whole")
    assert path.read_text() == "whole"
    assert names(path.parent) == ["table.csv"]


@pytest.mark.fault("killed")
def test_a_rename_that_fails_puts_the_old_folder_back(dataset, monkeypatch):
    monkeypatch.setattr(replacing, "exchange", lambda one, other: False)
    actual, calls = os.replace, []

    def fail_second(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EIO, "no")
        actual(source, target)

    monkeypatch.setattr(os, "replace", fail_second)
    with pytest.raises(OSError, match="no"):
        renew(dataset)
    assert names(dataset) == ["manifest.json", "old"]
    assert names(dataset.parent) == ["data"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="renameat2")
def test_linux_exchanges_folders_in_one_step(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    (one / "of one").touch()
    assert replacing.exchange(one, other)
    assert names(other) == ["of one"]
    with pytest.raises(FileNotFoundError):
        replacing.exchange(one, tmp_path / "gone")


# What a command destroys


@pytest.mark.parametrize("kind", [FILE, "dataset"])
def test_an_output_that_is_an_input_or_around_or_inside_one_is_refused(tmp_path, kind):
    source = tmp_path / "in" / "deep"
    source.mkdir(parents=True)
    (source / "file.csv").write_text("precious")
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "again.csv").hardlink_to(source / "file.csv")
    for out, given, relation in [
        (source / "file.csv", source / "file.csv", "is an input"),
        (tmp_path / "again.csv", source / "file.csv", "is an input"),
        (source / ".." / "deep" / "file.csv", source / "file.csv", "is an input"),
        (tmp_path / "link" / "file.csv", source / "file.csv", "is an input"),
        (source, tmp_path / "link", "is an input"),
        (source / "new", source, "lies in"),
        (tmp_path / "in", source / "file.csv", "holds"),
    ]:
        with pytest.raises(ConfigError, match=relation):
            check_target(out, kind, inputs=[None, tmp_path / "gone", given], overwrite=True)
    assert (source / "file.csv").read_text() == "precious"


def test_only_a_folder_of_the_same_kind_is_replaced(tmp_path, dataset):
    make(tmp_path / "run", "run")
    app = tmp_path / "app"
    app.mkdir()
    (app / "manifest.json").write_text('{"name": "shop", "kind": "dataset"}')
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for path, kind, message in [
        (tmp_path / "run", DATASET.kind, "is a run; a dataset does not replace it"),
        (dataset, RUN.kind, "is a dataset; a run does not replace it"),
        (app, DATASET.kind, "flr did not write"),
        (tmp_path / "file", DATASET.kind, "is a file; a dataset is a folder"),
        (dataset, FILE, "is a folder"),
    ]:
        with pytest.raises(ArtifactError, match=message):
            check_target(path, kind, overwrite=True)
    check_target(tmp_path / "empty", DATASET.kind, overwrite=True)


def test_a_folder_that_holds_more_than_flr_wrote_is_left_alone(dataset):
    (dataset / ".DS_Store").write_text("")
    renew(dataset)
    (dataset / "notes").mkdir()
    (dataset / "notes" / "ideas.txt").write_text("")
    with pytest.raises(ArtifactError, match=r"holds what flr did not write: notes/ideas\.txt"):
        renew(dataset)


def test_a_damaged_folder_of_the_kind_can_be_replaced(dataset):
    (dataset / "old").unlink()
    renew(dataset)
    (dataset / "manifest.json").write_text('{"kind": "dataset", "format_version": 1}')
    renew(dataset)
    assert names(dataset) == ["manifest.json", "new"]


def test_the_current_folder_is_not_replaced(dataset, monkeypatch):
    monkeypatch.chdir(dataset)
    with pytest.raises(ArtifactError, match="the current folder"):
        renew(Path("."))


# Links, devices, places that cannot be written


def test_links_are_followed_and_stay(tmp_path, dataset):
    (tmp_path / "link").symlink_to(dataset)
    renew(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert names(dataset) == ["manifest.json", "new"]
    assert names(tmp_path) == ["data", "link"]


def test_links_to_nothing_devices_and_streams_are_refused(tmp_path):
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    with pytest.raises(ArtifactError, match="leads nowhere"):
        check_target(tmp_path / "nowhere", FILE, overwrite=True)
    (tmp_path / "null").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "pipe")
    for name in ("null", "pipe"):
        with pytest.raises(ArtifactError, match="device or a stream"):
            check_target(tmp_path / name, FILE, overwrite=True)
    with pytest.raises(ConfigError, match="names no file"):
        check_target(Path("-"), FILE)


def test_the_file_that_stdout_goes_to_is_refused(tmp_path):
    code = f"""
from pathlib import Path
from flr_model.writing import FILE, check_target
check_target(Path({str(tmp_path / "log")!r}), FILE, overwrite=True)
"""
    with (tmp_path / "log").open("w") as stdout:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False
        )
    assert "what this command's messages or reports go to" in done.stderr


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path, reason in [
        (tmp_path / "file" / "out", "not a folder|Not a directory"),
        (tmp_path / "file" / "deep" / "out", "not a folder|Not a directory"),
        (tmp_path / ("x" * 250), "too long"),
    ]:
        with pytest.raises(ArtifactError, match=f"cannot be written: .*({reason})"):
            check_target(path, FILE)
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path)
    with pytest.raises(ArtifactError, match="no permission"):
        check_target(tmp_path / "new" / "out", "dataset")
    assert names(tmp_path) == ["file"]


def test_a_lock_file_that_cannot_be_made_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only")))
    with pytest.raises(ArtifactError, match="cannot be written: read-only"), claim(tmp_path / "out", FILE):
        pass


# Two processes, and processes that died


@pytest.mark.fault("two processes")
def test_a_second_process_is_refused_at_once(tmp_path):
    code = f"""
from pathlib import Path
from flr_model.writing import claim
with claim(Path({str(tmp_path / "out")!r}), "run"):
    print("claimed", flush=True)
    input()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        assert other.stdout.readline() == "claimed\n"
        for path in (tmp_path / "out", tmp_path / "." / "out"):
            with pytest.raises(ArtifactError, match="another process of flr is writing"), claim(path, "run"):
                pass
        with claim(tmp_path / "other", "run"):
            pass
        other.send_signal(signal.SIGKILL)
    assert lock_of(tmp_path / "out").exists()
    with claim(tmp_path / "out", "run"):
        pass
    assert names(tmp_path) == []


@pytest.mark.fault("two processes")
def test_of_processes_that_train_together_one_holds_the_lock(tmp_path):
    with claim(tmp_path / "out", "run"), claim(tmp_path / "out", "run", leads=False) as place:
        assert place == Claim(tmp_path / "out")


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("victim")
    lock_of(tmp_path / "out").symlink_to(tmp_path / "victim")
    with pytest.raises(ArtifactError, match="cannot be written"), claim(tmp_path / "out", FILE):
        pass
    assert (tmp_path / "victim").read_text() == "victim"


@pytest.mark.fault("killed")
def test_what_died_processes_left_is_removed_by_the_next(tmp_path, dataset):
    other = tmp_path / ".data.more.01234567.tmp"  # of another output
    other.mkdir()
    for ending in ("tmp", "old"):
        make(tmp_path / f".data.0123abcd.{ending}")
    renew(dataset)
    assert names(tmp_path) == [other.name, "data"]


KILLED = """
import os, signal, sys
from pathlib import Path
from flr_model import replacing
from tests.flr_model.test_writing import renew

count, way = int(sys.argv[2]), sys.argv[3]
if way == "two renames":
    replacing.exchange = lambda one, other: False

def deadly(call):
    def dies(*given):
        global count
        result = call(*given)
        count -= 1
        if not count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return dies

os.replace, replacing.exchange, replacing.remove = map(deadly, (os.replace, replacing.exchange, replacing.remove))
renew(Path(sys.argv[1]))
"""


@pytest.mark.fault("killed")
@pytest.mark.parametrize("way", ["exchange", "two renames"])
def test_killed_at_any_step_leaves_the_old_or_the_new_and_the_next_clears_up(tmp_path, way, record_property):
    seen = set()
    for count in range(1, 9):
        folder = tmp_path / str(count)
        folder.mkdir()
        make(folder / "data")
        command = [sys.executable, "-c", KILLED, str(folder / "data"), str(count), way]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        replacing.recover(folder / "data")  # as every command that opens the folder does
        held = names(folder / "data")
        assert held in (["manifest.json", "new"], ["manifest.json", "old"])
        seen.add(held[1])
        renew(folder / "data")
        assert names(folder) == ["data"]
        if done.returncode == 0:
            break
    assert done.returncode == 0
    assert count > 2
    record_property("tried", count)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_what_one_may_read_of_a_folder_of_results_one_may_read_of_its_files(tmp_path):
    with claim(tmp_path / "run", "run") as place, place.folder() as folder:
        (folder / "parts").mkdir()
        for name in ("head.bin", "parts/model.bin"):
            (folder / name).write_bytes(b"weights")
            (folder / name).chmod(0o600)
    expected = (tmp_path / "run").stat().st_mode & 0o666
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "run").rglob("*") if path.is_file()} == {expected}


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_shared_file_is_copied_where_it_cannot_be_linked(tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    source = tmp_path / "weights"
    source.write_text("w")
    source.chmod(0o644)
    replacing.share(source, tmp_path / "linked")
    assert source.samefile(tmp_path / "linked")
    source.chmod(0o600)
    replacing.share(source, tmp_path / "readable")
    source.chmod(0o644)
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "another disk")))
    replacing.share(source, tmp_path / "elsewhere")
    for name in ("readable", "elsewhere"):
        assert not source.samefile(tmp_path / name)
        assert (tmp_path / name).read_text() == "w"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_shared_file_keeps_its_permissions(tmp_path):
    source = tmp_path / "weights"
    source.write_text("w")
    source.chmod(tmp_path.stat().st_mode & 0o666)
    with claim(tmp_path / "run", "run") as place, place.folder() as folder:
        replacing.share(source, folder / "weights")
        source.chmod(0o640)
        (folder / "own").write_text("o")
    assert source.stat().st_mode & 0o777 == 0o640


def test_folders_made_for_an_output_that_failed_are_removed_again(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(RuntimeError), claim(tmp_path / "mine" / "a" / "b" / "data", "dataset"):
        raise RuntimeError
    assert names(tmp_path) == ["mine"]
    assert names(tmp_path / "mine") == []


def test_folders_made_for_an_output_stay_with_what_is_in_them(tmp_path):
    for name, fails in (("data", False), ("other", True)):
        try:
            with claim(tmp_path / "a" / name, "dataset") as place, place.folder() as folder:
                Manifest("dataset").write(folder)
                if fails:
                    raise RuntimeError
        except RuntimeError:
            pass
    assert names(tmp_path / "a") == ["data"]
