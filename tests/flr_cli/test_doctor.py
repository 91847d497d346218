import json
import re
import subprocess
import sys
from pathlib import Path

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
