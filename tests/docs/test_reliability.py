"""Every test that docs/reliability.md names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_every_situation_has_tests_and_they_exist():
    rows = PAGE.split("## Situations")[1].split("##")[0].split("|---|---|\n")[1].strip().splitlines()
    assert len(rows) > 25
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        assert named, row
        for path, name in named:
            assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), (path, name)


def test_every_file_of_tests_that_is_named_exists():
    files = [*(ROOT / "tests").rglob("test_*.py")]
    for name in set(re.findall(r"`((?:tests/)?[\w/]*test_\w+\.py)", PAGE)):
        assert any(file.as_posix().endswith("/" + name) for file in files), name
