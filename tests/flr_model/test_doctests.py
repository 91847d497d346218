import doctest
import importlib

import numpy as np
import pytest


@pytest.mark.parametrize("name", ["metrics", "config", "columns"])
def test_examples_in_docstrings_are_right(name):
    module = importlib.import_module(f"flr_model.{name}")
    result = doctest.testmod(module, extraglobs={"np": np})
    assert result.failed == 0
