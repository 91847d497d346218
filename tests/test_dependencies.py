"""Every dependency is bounded on both sides, and what is installed here lies within."""

from importlib import metadata
from pathlib import Path

import pytest

pytestmark = pytest.mark.fault("versions")

packaging = pytest.importorskip("packaging.requirements")
tomllib = pytest.importorskip("tomllib")

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = [
    packaging.Requirement(text) for text in sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])
]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_dependency_is_bounded_and_the_installed_version_lies_within(requirement):
    operators = {bound.operator for bound in requirement.specifier}
    assert operators == {">=", "<"} or operators == {"=="}
    try:
        installed = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return
    assert requirement.specifier.contains(installed, prereleases=True)
