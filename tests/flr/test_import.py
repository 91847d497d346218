"""What `import flr` offers, and what it costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import flr

ROOT = Path(__file__).parents[2]


def test_everything_it_offers_is_there():
    assert all(getattr(flr, name) is not None for name in flr.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        flr.nothing  # noqa: B018


def test_importing_it_loads_nothing_heavy():
    code = "import sys, flr; print(*{'numpy', 'pandas', 'pyarrow', 'torch'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
