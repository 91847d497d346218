import pytest

from flr_cli import app
from flr_cli.app import main

FULL = "No space left on device"


def meeting(error, monkeypatch):
    def command(**_):
        raise error

    monkeypatch.setattr(app, "app", command)
    return main([])


@pytest.mark.parametrize("error", [OSError(28, FULL), RuntimeError(f"I/O error: {FULL} (os error 28)")])
def test_a_full_disk_is_said_in_one_line(error, monkeypatch, capsys):
    assert meeting(error, monkeypatch) == 1
    assert "no space left on the disk" in capsys.readouterr().err


def test_other_errors_pass_through(monkeypatch):
    with pytest.raises(OSError, match="a cable"):
        meeting(OSError(5, "a cable"), monkeypatch)
