import json
import platform
import re
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import flr
from flr_cli.app import main
from flr_cli.commands.doctor import PACKAGES, examine
from flr_model.config_io import tomllib

ROOT = Path(__file__).parents[2]


def test_json_names_versions_and_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr("flr_cli.commands.doctor._version", lambda name: None if name == "torch" else "1.0")
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    versions = {package["name"]: package["version"] for package in report["packages"]}
    assert (versions["torch"], versions["numpy"]) == (None, "1.0")


def test_tables_tell_how_to_fetch_what_is_not_cached(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FLR_CACHE", str(tmp_path))
    assert main(["doctor"]) == 0
    assert "flr fetch smollm2-135m" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cache"] == str(tmp_path)


def test_a_machine_without_the_driver_has_no_gpu(monkeypatch):
    monkeypatch.setattr("flr_cli.commands.doctor.shutil.which", lambda name: None)
    assert examine()["gpus"] == []


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from flr_cli.commands.doctor import examine; examine(); "
        "sys.exit(bool({'torch', 'transformers', 'optimum', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_packages_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {"base": project["dependencies"], **project["optional-dependencies"]}
    for extra, packages in PACKAGES.items():
        names = {re.split(r"[<>=;\[ ]", requirement)[0] for requirement in declared[extra]}
        assert set(packages) == names - {"tomli"}


def test_a_folder_tells_when_how_and_with_what_it_was_made(tmp_path, tiny_raw, capsys):
    files = ["--interactions", str(tiny_raw / "interactions.csv"), "--items", str(tiny_raw / "items.csv")]
    words = ["prepare", *files, "--out", str(tmp_path / "my data"), "--quiet"]
    began = datetime.now(timezone.utc).replace(microsecond=0)
    assert main(words) == 0
    assert main(["doctor", str(tmp_path / "my data"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert made["command"] == ["flr", *words]
    assert began <= datetime.fromisoformat(made["at"]) <= datetime.now(timezone.utc)
    assert 0 <= made["seconds"] < 60
    assert made["python"] == platform.python_version()
    assert made["libraries"]["pandas"] == metadata.version("pandas")
    assert made["device"]
    assert main(["doctor", str(tmp_path / "my data")]) == 0
    assert f"made by: flr prepare {' '.join(files)} --out '{tmp_path}/my data' --quiet\n" in capsys.readouterr().out


def test_a_folder_that_is_damaged_is_no_folder_to_tell_of(tmp_path, tiny_raw, capsys):
    files = {"interactions": tiny_raw / "interactions.csv", "items": tiny_raw / "items.csv"}
    flr.prepare(tmp_path / "data", **files)
    assert main(["doctor", str(tmp_path / "data")]) == 0
    assert "made by: " in capsys.readouterr().out
    (tmp_path / "data" / "items.parquet").write_bytes(b"")
    assert main(["doctor", str(tmp_path / "data")]) == 3
    assert "items.parquet is damaged" in capsys.readouterr().err
