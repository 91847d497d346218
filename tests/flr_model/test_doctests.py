import doctest
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    path for package in ("flr_model", "flr_cli", "flr", "flr_export") for path in sorted((ROOT / package).rglob("*.py"))
]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in FILES
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_right(name):
    result = doctest.testmod(pytest.importorskip(name), extraglobs={"np": np})
    assert result.attempted > 0
    assert result.failed == 0
