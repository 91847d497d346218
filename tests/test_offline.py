"""Nothing under flr reports its use: the switches are set before the libraries are imported, whoever imports first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flr_model.offline import SWITCHES

pytestmark = pytest.mark.fault("network")

ROOT = Path(__file__).parents[1]
FAKE = """
import os

with open(os.environ["RECORD"], "a") as file:
    file.write(os.environ.get("ORT_DISABLE_TELEMETRY", "unset") + "\\n")
def get_available_providers():
    return ["CPUExecutionProvider"]
"""
USES = {
    "the library alone": "from flr_export.sessions import on_gpu; assert not on_gpu()",
    "a session": "from flr_export.sessions import open_session; open_session(None, threads=1, arena=False)",
    "the bundle's package": "import flr_export; import onnxruntime",
    "the model's package": "import flr_model; import onnxruntime",
    "flr doctor": "from flr_cli.commands.doctor import examine; examine()",
}


@pytest.fixture
def python(tmp_path):
    """Run code in a fresh process without any switch, with a fake onnxruntime that notes what it finds."""
    (tmp_path / "onnxruntime.py").write_text(FAKE)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    environment |= {"PYTHONPATH": path, "RECORD": str(tmp_path / "record")}

    def run(code, **switches):
        given = {**environment, **switches}
        return subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize("use", USES)
def test_onnxruntime_finds_its_reports_switched_off_when_it_is_imported(python, tmp_path, use):
    python(USES[use])
    assert (tmp_path / "record").read_text() == "1\n"


def test_every_switch_is_set_by_the_library_and_a_person_s_own_value_stays(python):
    code = "import flr_model, os; print({name: os.environ[name] for name in " + repr(list(SWITCHES)) + "})"
    assert python(code).stdout.strip() == repr(SWITCHES)
    assert "'RAY_USAGE_STATS_ENABLED': '1'" in python(code, RAY_USAGE_STATS_ENABLED="1").stdout


LOOKS = """
import os, socket
def note(*given, **_):
    open(os.environ["RECORD"], "a").write(repr(given))
    raise OSError("no network here")
socket.getaddrinfo = socket.socket.connect = note
from flr_model.errors import ArtifactError
from flr_model.nn.backbone import load_backbone, load_output_embeddings
for load in (load_backbone, load_output_embeddings):
    try:
        load("some/model")
    except ArtifactError as error:
        print(error.message, error.hint)
"""


def test_a_backbone_is_looked_for_on_this_machine_only(python, tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    done = python(LOOKS, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path / "empty"))
    assert done.stdout.count("cannot load the backbone 'some/model'") == 2, done.stderr
    assert "hf download some/model" in done.stdout
    assert not (tmp_path / "record").exists()
