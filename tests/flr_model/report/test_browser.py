"""A page in a real browser: Chromium with its driver, where both are installed."""

import base64
import json
import shutil

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
pytest.importorskip("selenium")

from selenium import webdriver

from tests.flr_model.report.pages import HOSTILE, SHOWN, written

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
FIGURES = """
return [...document.querySelectorAll("svg")].map(svg => {
  const box = svg.getBoundingClientRect();
  return [svg.getAttribute("aria-label").split(".")[0], box.width, box.height, svg.querySelectorAll("path").length];
});
"""
BEYOND = """
const inside = element => element.parentElement.closest("figure") !== null;  // a figure scrolls by itself
return [...document.body.querySelectorAll("*")]
  .filter(element => !inside(element) && element.getBoundingClientRect().right > window.innerWidth + 0.5)
  .map(element => element.outerHTML.slice(0, 80));
"""
BROKEN = r"""
const range = document.createRange();
const word = text => { range.selectNodeContents(text); return range.getClientRects().length; };
return [...document.querySelectorAll("th")]
  .filter(cell => !/[ \u00ad]/.test(cell.textContent) && word(cell.firstChild) > 1).map(cell => cell.textContent);
"""

pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium with chromedriver is installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser that has opened the page of hostile titles."""
    folder = tmp_path_factory.mktemp("browser")
    names = ("<run>$a$", "a run whose name is long enough to be wider than the column that it is shown in")
    (folder / "page.html").write_text(written(folder, HOSTILE, names), encoding="utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (*QUIET, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER)) as driver:
        driver.get((folder / "page.html").as_uri())
        yield driver


def resized(browser, width):
    """Give the page a window, as that of a telephone."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert browser.execute_script("return window.innerWidth") == width


def test_nothing_is_wrong_and_nothing_is_asked_for(browser):
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    here = browser.current_url
    assert [one["request"]["url"] for one in sent if one["documentURL"] == here] == [here]


def test_hostile_titles_are_read_as_they_are(browser):
    shown = browser.execute_script("return [...document.querySelectorAll('bdi')].map(one => one.textContent)")
    for title in SHOWN:
        assert title in shown
    assert browser.execute_script("return document.querySelectorAll('script, img, i, b, iframe, object').length") == 0
    assert browser.title == "<run>$a$: report of flr"


@pytest.mark.parametrize("width", [1200, 800, 390])
def test_all_is_there_to_see_in_windows_of_any_width(browser, width):
    resized(browser, width)
    figures = browser.execute_script(FIGURES)
    assert len(figures) == 5
    assert all(wide > min(width - 60, 480) and high > 60 and paths > 5 for _, wide, high, paths in figures), figures
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(BEYOND) == []
    assert browser.execute_script(BROKEN) == []


def test_it_can_be_printed(browser):
    pdf = base64.b64decode(browser.print_page())
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Type /Page\n") >= 2
