import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flr_cli import app
from flr_cli.app import main

ROOT = Path(__file__).parents[2]
FULL = os.strerror(errno.ENOSPC)


@pytest.fixture
def meeting(monkeypatch, capsys):
    """Run a command that meets an error, and return its exit code and its message."""

    def meeting(error):
        def command(**_):
            raise error

        monkeypatch.setattr(app, "app", command)
        return main(["doctor"]), capsys.readouterr().err

    return meeting


@pytest.mark.fault("system")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, FULL), FULL),
        (RuntimeError(f"I/O error: {FULL} (os error 28)"), FULL),
        (PermissionError(errno.EACCES, "Permission denied", "closed/out"), "closed/out: Permission denied"),
        (FileExistsError(errno.EEXIST, "File exists", b"afile"), "afile: File exists"),
        (OSError("a sentence of a library"), "a sentence of a library"),
        (TimeoutError(), "TimeoutError"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"), "not enough memory"),
    ],
)
def test_faults_of_the_system_are_one_message_and_code_3(meeting, error, words):
    code, said = meeting(error)
    assert code == 3
    assert said.startswith("error: ")
    assert words in said
    assert "\ntry: " in said
    assert "Traceback" not in said


def test_a_fault_of_the_program_passes_through(meeting):
    with pytest.raises(KeyError, match="a cable"):
        meeting(KeyError("a cable"))


def test_an_error_of_usage_names_the_help_of_the_command(capsys):
    assert main(["train", "--no-such-flag"]) == 2
    said = capsys.readouterr().err
    assert "--no-such-flag" in said
    assert "try: flr train --help" in said


@pytest.mark.fault("terminal")
def test_escapes_of_arguments_do_not_reach_the_terminal(capsys):
    assert main(["eval", "\x1b[2Jrun"]) == 3
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\\x1b[2Jrun" in said


def test_verbose_and_the_log_file_have_the_traceback(tmp_path, capsys):
    log = tmp_path / "flr.log"
    assert main(["eval", str(tmp_path / "gone"), "--log-file", str(log)]) == 3
    assert "Traceback" not in capsys.readouterr().err
    assert "ERROR" in log.read_text()
    assert "Traceback" in log.read_text()
    assert main(["eval", str(tmp_path / "gone"), "-v"]) == 3
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.fault("outputs")
def test_a_log_file_that_holds_something_else_is_left_alone(tmp_path, capsys):
    data, log = tmp_path / "log.csv", tmp_path / "flr.log"
    data.write_text("user_id,item_id\n")
    assert main(["doctor", "--log-file", str(data)]) == 3
    assert "is no file of messages" in " ".join(capsys.readouterr().err.split())
    assert data.read_text() == "user_id,item_id\n"
    for _ in range(2):
        assert main(["prepare", "--interactions", "gone", "--out", "d", "--log-file", str(log)]) in (2, 3)
    assert log.read_text().count("ERROR") == 2


@pytest.mark.fault("system")
def test_a_log_file_that_cannot_be_written_is_named(tmp_path, capsys):
    assert main(["doctor", "--log-file", str(tmp_path / "no" / "flr.log")]) == 3
    assert "flr.log" in capsys.readouterr().err


def flr(*arguments, hook="", **options):
    """Start flr in a process of its own, with code that runs before it."""
    code = f"import sys\n{hook}\nfrom flr_cli.app import main\nsys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


# A background job of a script starts with Ctrl-C ignored, and so would its children.
SLOW = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from flr_cli.commands import doctor
def slow():
    print("begun", flush=True)
    time.sleep(60)
doctor.examine = slow
"""


@pytest.mark.fault("killed")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_says_what_remains_and_how_to_go_on(number):
    process = flr("doctor", hook=SLOW)
    assert process.stdout.readline() == b"begun\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.decode() == "error: stopped before the end; nothing was written\ntry: run the same command again\n"


@pytest.mark.fault("terminal")
@pytest.mark.parametrize("arguments", [["doctor"], ["init"], ["doctor", "--json"], ["--version"]])
def test_a_closed_pipe_is_no_error(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [sys.executable, "-m", "flr_cli", *arguments], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (process.returncode, process.stderr) == (0, b"")


@pytest.mark.fault("terminal")
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_narrow_console_gets_every_character_escaped(encoding):
    report = {"cache": "Звезда", "packages": [], "assets": {}}
    hook = f"from flr_cli.commands import doctor\ndoctor.examine = lambda: {report}"
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for flags, shown in ((["--json"], b'{"cache": "\\u0417'), ([], b"\\u0417")):
        process = flr("doctor", *flags, hook=hook, env=environment)
        printed, said = process.communicate(timeout=30)
        assert (process.returncode, said) == (0, b"")
        assert shown in printed
