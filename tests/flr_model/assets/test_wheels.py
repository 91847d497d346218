import dataclasses
import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from flr_model.assets import wheels as assets
from flr_model.errors import ArtifactError, FlrError, MissingExtraError

DATA = assets.ASSETS["ml-100k"]
MODEL = assets.ASSETS["smollm2-135m"]
ENCODER = assets.ASSETS["minilm"]


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with the members of all assets and files that nobody asked for; all assets expect its checksum."""
    path, inner = tmp_path / "fake-1-py3-none-any.whl", tmp_path / "model.zip"
    with zipfile.ZipFile(inner, "w") as archive:
        for member in (*ENCODER.members, "README.md"):
            archive.writestr(member, f"content of {member}")
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(inner, ENCODER.archive)
        for member in (*DATA.members, *MODEL.members, "recbole/__init__.py", "../outside.txt"):
            archive.writestr(member, f"content of {member}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    table = {a.name: dataclasses.replace(a, sha256=digest) for a in (MODEL, ENCODER, DATA)}
    monkeypatch.setattr(assets, "ASSETS", table)
    return path


class FakeDownload:
    def __init__(self, wheel):
        self.wheel, self.calls = wheel, 0

    def __call__(self, asset, folder):
        self.calls += 1
        path = folder / f"{asset.package}.whl"
        path.write_bytes(self.wheel.read_bytes())
        return path


def convert(gguf: Path, folder: Path) -> None:
    assert gguf.read_text() == f"content of {MODEL.members[0]}"
    for name in MODEL.files:
        (folder / name).write_text("converted")


def no_network(asset, folder):
    raise FlrError("no network")


def everything_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_fetch_takes_only_the_named_files_out_of_the_wheel(wheel, tmp_path):
    cache = tmp_path / "cache"
    folder = assets.fetch("ml-100k", cache, download=FakeDownload(wheel))
    assert folder.parent == cache
    names = ("manifest.json", "ml-100k.inter", "ml-100k.item")
    assert everything_below(cache) == [f"{folder.name}/{name}" for name in names]
    assert (folder / "ml-100k.item").read_text() == f"content of {DATA.members[1]}"


def test_a_cached_asset_is_not_downloaded_again(wheel, tmp_path):
    download = FakeDownload(wheel)
    first = assets.fetch("ml-100k", tmp_path / "cache", download=download)
    assert assets.fetch("ml-100k", tmp_path / "cache", download=no_network) == first
    assert download.calls == 1


@pytest.mark.fault("damaged")
def test_an_incomplete_asset_is_fetched_again(wheel, tmp_path):
    folder = assets.fetch("ml-100k", tmp_path / "cache", download=FakeDownload(wheel))
    (folder / "ml-100k.item").unlink()
    assets.fetch("ml-100k", tmp_path / "cache", download=FakeDownload(wheel))
    assert (folder / "ml-100k.item").is_file()


@pytest.mark.fault("damaged")
def test_a_damaged_asset_is_refused_and_fetched_again(wheel, tmp_path, caplog):
    folder = assets.fetch("ml-100k", tmp_path, download=FakeDownload(wheel))
    (folder / "ml-100k.item").write_text("half")
    with pytest.raises(ArtifactError, match="not whole") as caught:
        assets.asset_path("ml-100k", tmp_path)
    assert caught.value.hint == "flr fetch ml-100k"
    assert "ml-100k.item is damaged" in caplog.text
    download = FakeDownload(wheel)
    assert assets.fetch("ml-100k", tmp_path, download=download) == folder
    assert download.calls == 1
    assert (folder / "ml-100k.item").read_text() == f"content of {DATA.members[1]}"


def test_an_asset_without_checksums_is_used_and_that_is_said_once(wheel, tmp_path, caplog):
    folder = assets.fetch("ml-100k", tmp_path, download=FakeDownload(wheel))
    (folder / "manifest.json").unlink()
    for _ in range(2):
        assert assets.asset_path("ml-100k", tmp_path) == folder
    assert caplog.text.count("unchecked") == 1


@pytest.mark.fault("killed")
def test_what_a_killed_fetch_left_is_removed_by_the_next(wheel, tmp_path):
    left = tmp_path / f".{DATA.folder(tmp_path).name}.01234567.tmp"
    left.mkdir()
    (left / "half.whl").write_text("")
    assets.fetch("ml-100k", tmp_path, download=FakeDownload(wheel))
    assert not left.exists()


@pytest.mark.fault("damaged")
def test_a_wrong_checksum_is_an_error_and_keeps_nothing(wheel, tmp_path):
    wheel.write_bytes(wheel.read_bytes() + b"!")
    with pytest.raises(ArtifactError, match="SHA-256"):
        assets.fetch("ml-100k", tmp_path / "cache", download=FakeDownload(wheel))
    assert not (tmp_path / "cache").exists()


def test_a_failed_download_keeps_nothing(tmp_path):
    with pytest.raises(FlrError, match="no network"):
        assets.fetch("ml-100k", tmp_path / "cache", download=no_network)
    assert not (tmp_path / "cache").exists()


def test_a_model_is_converted_and_its_gguf_is_not_kept(wheel, tmp_path):
    folder = assets.fetch("smollm2-135m", tmp_path / "cache", download=FakeDownload(wheel), convert=convert)
    assert everything_below(folder) == sorted([*MODEL.files, "manifest.json"])


def test_files_of_an_archive_in_the_wheel_keep_their_folders(wheel, tmp_path):
    folder = assets.fetch("minilm", tmp_path / "cache", download=FakeDownload(wheel))
    assert everything_below(folder) == sorted([*ENCODER.files, "manifest.json"])
    assert (folder / "1_Pooling" / "config.json").read_text() == "content of 1_Pooling/config.json"


def test_a_conversion_that_fails_keeps_nothing(wheel, tmp_path):
    with pytest.raises(ArtifactError, match=r"gave no config\.json"):
        assets.fetch(
            "smollm2-135m", tmp_path / "cache", download=FakeDownload(wheel), convert=lambda gguf, folder: None
        )
    assert not (tmp_path / "cache").exists()


def test_a_missing_package_of_the_conversion_is_named_before_the_download(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(assets.importlib.util, "find_spec", lambda name: None if name == "gguf" else True)
    with pytest.raises(MissingExtraError, match="'gguf'") as caught:
        assets.fetch("smollm2-135m", tmp_path / "cache", download=no_network)
    assert '[train]"' in caught.value.hint


def test_asset_path_tells_how_to_get_what_is_missing(wheel, tmp_path):
    with pytest.raises(ArtifactError, match="is not in the cache") as caught:
        assets.asset_path("ml-100k", tmp_path)
    assert caught.value.hint == "flr fetch ml-100k"
    folder = assets.fetch("ml-100k", tmp_path, download=FakeDownload(wheel))
    assert assets.asset_path("ml-100k", tmp_path) == folder


def test_an_unknown_name_lists_the_assets(tmp_path):
    with pytest.raises(ArtifactError, match="no asset 'ml-1m'") as caught:
        assets.fetch("ml-1m", tmp_path)
    assert "smollm2-135m, minilm, ml-100k" in caught.value.hint


def test_a_cache_that_cannot_be_written_is_an_error(wheel, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written") as caught:
        assets.fetch("ml-100k", tmp_path / "file" / "cache", download=FakeDownload(wheel))
    assert "FLR_CACHE" in caught.value.hint


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({"FLR_CACHE": "/own", "XDG_CACHE_HOME": "/shared"}, Path("/own")),
        ({"FLR_CACHE": "", "XDG_CACHE_HOME": "/shared"}, Path("/shared/flr")),
        ({}, Path.home() / ".cache" / "flr"),
    ],
)
def test_cache_folder_follows_the_environment(env, folder):
    assert assets.cache_folder(env) == folder


def test_pip_download_asks_for_the_pinned_wheel_alone(tmp_path, monkeypatch):
    def pip(command, **_):
        assert command[1:4] == ["-m", "pip", "download"]
        assert {"--no-deps", "--only-binary=:all:", "recbole==1.2.1"} <= set(command)
        (tmp_path / "recbole.whl").write_text("")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    assert assets.pip_download(DATA, tmp_path) == tmp_path / "recbole.whl"


def test_pip_download_repeats_what_pip_said(tmp_path, monkeypatch):
    done = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: no route to host\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(FlrError, match=r"recbole==1\.2\.1: ERROR: no route to host") as caught:
        assets.pip_download(DATA, tmp_path)
    assert "network" in caught.value.hint


def test_pip_download_without_pip_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(assets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FlrError, match="no pip") as caught:
        assets.pip_download(DATA, tmp_path)
    assert "ensurepip" in caught.value.hint


@pytest.mark.slow
def test_the_real_backbone_is_fetched_and_loads(tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = assets.fetch("smollm2-135m", tmp_path)
    assert everything_below(tmp_path) == sorted(f"{folder.name}/{path.name}" for path in folder.iterdir())
    config = transformers.AutoConfig.from_pretrained(folder)
    assert (config.model_type, config.num_hidden_layers, config.hidden_size) == ("llama", 30, 576)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("Abbey Road")["input_ids"]) == "Abbey Road"
