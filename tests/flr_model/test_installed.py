import json

import pytest

from flr_model import installed
from flr_model.errors import MissingExtraError


class Distribution:
    def __init__(self, text):
        self.text = text

    def read_text(self, name):
        return self.text if name == "direct_url.json" else None


def test_in_a_clone_the_hint_names_the_clone():
    hint = MissingExtraError("torch", "train").hint
    assert hint == f'pip install -e "{installed.CLONE}[train]"'
    assert (installed.CLONE / "pyproject.toml").is_file()


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        ({"url": "file://{here}"}, 'pip install "flr[cpu] @ file://{here}"'),
        ({"url": "file://{here}/gone"}, 'pip install ".[cpu]" in a clone of flr'),
        ({"url": "https://host/flr", "vcs_info": {"vcs": "git"}}, 'pip install "flr[cpu] @ git+https://host/flr"'),
        (None, 'pip install ".[cpu]" in a clone of flr'),
    ],
)
def test_an_installed_flr_is_taken_again_from_where_it_came(origin, command, tmp_path, monkeypatch):
    text = origin and json.dumps(origin).replace("{here}", str(tmp_path))
    monkeypatch.setattr(installed, "CLONE", tmp_path)
    monkeypatch.setattr(installed.metadata, "distribution", lambda name: Distribution(text))
    assert installed.pip_command("cpu") == command.replace("{here}", str(tmp_path))
