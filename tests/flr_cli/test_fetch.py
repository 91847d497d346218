import json

import pytest

from flr_cli.app import main
from flr_model.artifacts import ASSET, Manifest
from flr_model.assets import wheels as assets


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder that holds the demo data, and an index that cannot be reached."""

    def no_download(*_):
        raise AssertionError("must not download")

    folder = assets.ASSETS["ml-100k"].folder(tmp_path)
    folder.mkdir()
    for name in assets.ASSETS["ml-100k"].files:
        (folder / name).write_text("")
    Manifest(ASSET.kind).write(folder)
    monkeypatch.setenv("FLR_CACHE", str(tmp_path))
    monkeypatch.setattr(assets, "pip_download", no_download)
    return folder


def test_a_cached_asset_is_printed_without_network(cache, capsys):
    assert main(["fetch", "ml-100k"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(cache)
    assert "research use" in captured.err


def test_quiet_leaves_the_path_alone(cache, capsys):
    assert main(["fetch", "ml-100k", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_json_is_one_object(cache, capsys):
    assert main(["fetch", "ml-100k", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(cache)


def test_an_unknown_name_lists_what_there_is(cache, capsys):
    assert main(["fetch", "ml-1m"]) == 3
    assert "smollm2-135m, minilm, ml-100k" in capsys.readouterr().err
