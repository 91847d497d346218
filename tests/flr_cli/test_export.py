import json

import pytest

from flr_cli.app import main

pytest.importorskip("optimum.exporters.onnx")
pytest.importorskip("onnxruntime")


def test_export_writes_a_bundle_and_names_the_next_command(tiny_run, tmp_path, capsys):
    out = tmp_path / "bundle"
    assert main(["export", str(tiny_run), "--onnx", "--out", str(out)]) == 0
    assert json.loads((out / "manifest.json").read_text())["kind"] == "bundle"
    shown = capsys.readouterr()
    assert "queries" in shown.out
    assert "reader.onnx" in shown.out
    assert f"flr score {out}" in shown.err.replace("\n", "")


def test_json_prints_one_object(tiny_run, tmp_path, capsys):
    out = tmp_path / "bundle"
    assert main(["export", str(tiny_run), "--out", str(out), "--precision", "fp32", "--json", "--quiet"]) == 0
    shown = capsys.readouterr()
    body = json.loads(shown.out)
    assert (body["precision"], body["bundle"]) == ("fp32", str(out))
    assert shown.err == ""


def test_an_existing_result_is_left_alone_unasked(tiny_run, tmp_path, capsys):
    out = tmp_path / "bundle"
    command = ["export", str(tiny_run), "--out", str(out), "--precision", "fp32", "--quiet"]
    assert main(command) == 0
    before = (out / "reader.onnx").stat().st_mtime_ns
    assert main(command) == 3
    assert "--overwrite" in capsys.readouterr().err
    assert (out / "reader.onnx").stat().st_mtime_ns == before
    assert main([*command, "--overwrite"]) == 0
    assert (out / "reader.onnx").stat().st_mtime_ns > before


def test_a_refused_export_exits_with_4_and_leaves_no_trace(tiny_run, tmp_path, capsys):
    assert main(["export", str(tiny_run), "--out", str(tmp_path / "b"), "--tolerance", "0"]) == 4
    assert "beyond the tolerance" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_in_place_of_a_run_is_refused(tiny_dataset, tmp_path, capsys):
    assert main(["export", str(tiny_dataset), "--out", str(tmp_path / "b")]) == 3
    assert "expected a run" in capsys.readouterr().err


def test_without_the_exporter_the_extra_is_named(tiny_run, tmp_path, monkeypatch, capsys):
    import sys

    for name in [
        name for name in sys.modules if name.split(".")[0] == "optimum" or name == "flr_export.building.build"
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "flr_export.building.graphs", raising=False)
    monkeypatch.setitem(sys.modules, "optimum", None)
    assert main(["export", str(tiny_run), "--out", str(tmp_path / "b")]) == 1
    assert '[train]"' in capsys.readouterr().err
