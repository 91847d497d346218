"""What is installed: the packages of this project and no other name. And what the image copies."""

import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools", minversion="77")
tomllib = pytest.importorskip("tomllib")

ROOT = Path(__file__).parents[1]
PACKAGES = {"flr", "flr_cli", "flr_export", "flr_model"}
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "flr", "flr_cli", "flr_model", "export")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of what the image copies, so without the link `flr_export`."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    build = "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])"
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=source, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def test_a_wheel_has_every_module_and_template_under_names_of_this_project(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in names} == PACKAGES
    folders = {"flr_export": "export"}
    for package in PACKAGES:
        source = ROOT / folders.get(package, package)
        expected = {
            path.relative_to(source).as_posix() for path in source.rglob("*") if path.suffix in (".py", ".html")
        }
        assert {name.removeprefix(f"{package}/") for name in names if name.startswith(f"{package}/")} == (
            expected | {"py.typed"}
        )


def test_an_installed_wheel_starts_and_leaves_the_name_export_to_others(wheel, tmp_path):
    """In an environment of its own, which sees the dependencies of this one."""
    place = tmp_path / "venv"
    venv.create(place, with_pip=False)
    python = place / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    (site,) = place.rglob("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    others = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(others))  # a path alone: their own .pth files are not read
    run = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 120}
    code = "import flr, flr_export as e; print(flr.__file__, e.__file__); from flr_cli.app import main; main(['-h'])"
    done = subprocess.run([python, "-c", code], **run, check=True)
    assert done.stdout.splitlines()[0].split() == [str(site / name / "__init__.py") for name in ("flr", "flr_export")]
    assert "Recommendation with a language model" in done.stdout
    failed = subprocess.run([python, "-c", "import export"], **run, check=False)
    assert "ModuleNotFoundError: No module named 'export'" in failed.stderr


def test_the_image_copies_what_is_there_and_installs_an_extra_that_exists():
    text = (ROOT / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert sorted(copied) == sorted(SOURCES)
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(allowed) == sorted(SOURCES)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = re.search(r'pip install .*"\.\[(.+)\]"', text)[1].split(",")
    assert set(asked) <= extras.keys()
    assert "train" not in asked
