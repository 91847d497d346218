"""The documents build as a site in which every link leads somewhere and nothing is loaded from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Strict: a page that the navigation lacks, or a link to nowhere, fails."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_document_is_a_page_and_the_home_is_the_readme(site):
    pages = {path.stem for path in site.glob("*.html")}
    assert pages == {
        "404",
        "index",
        "search",
        "changelog",
        "contributing",
        *(p.stem for p in (ROOT / "docs").glob("*.md")),
    }
    home = (site / "index.html").read_text(encoding="utf-8")
    assert "make demo" in home
    assert 'href="method.html"' in home
    assert (site / "quickstart.ipynb").exists()
    assert not (site / "site.py").exists()


def test_the_pages_load_nothing_from_elsewhere(site):
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'src="(?:https?:)?//[^"]+"|<link[^>]+href="(?:https?:)?//[^"]+"', text), page
