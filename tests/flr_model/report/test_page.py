"""The page holds every part, whatever titles hold, and refers to nothing elsewhere."""

import re
from html.parser import HTMLParser

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from tests.flr_model.report.pages import HOSTILE, PLAIN, SHOWN, written


class Parsed(HTMLParser):
    """The elements of a page, their references, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.references, self.pieces, self.labels = set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        self.labels += [value for name, value in attrs if name == "aria-label"]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.pieces.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.pieces).split())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return written(tmp_path_factory.mktemp("plain"), PLAIN, ("run", "other"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return written(tmp_path_factory.mktemp("hostile"), HOSTILE, ("<run>$a$", "other\x1b{{7*7}}"))


def test_every_part_is_there(plain):
    parsed = Parsed(plain)
    for part in (
        *("How good it is", "For whom", "How it learned", "What the factors are about"),
        *("4 users and their recommendations", "The data", "The settings"),
        *("popularity", "co-occurrence", "of 4 rows, 95 % interval", "shelf: even one (1)", "history: 1-2 (4)"),
        *(
            "Equal to other in every row",
            "other: NDCG@10",
            "n factors 2",
            "Newest first: even two ; even one",
        ),
    ):
        assert part in parsed.text, part
    assert [label.split(".")[0] for label in parsed.labels] == [
        "Bars of HR@10 and NDCG@10 with 95 % intervals",
        "Differences of run and the others",
        "NDCG@10 by group",
        "Validation NDCG@10 by epoch",
        "How much and how often each factor speaks",
    ]
    assert "epoch 1 0.2000" in parsed.labels[3]


def test_reasons_are_those_of_the_recommender(plain):
    """After [a, c] comes e, by what the first factor sees in a and c."""
    first = plain.split('<section class="user">')[1]
    reason = r"factor&nbsp;1 \(\d+&nbsp;%\)</td><td><bdi>even (one|two)</bdi>"
    assert re.search(rf'class="hit"><bdi>even three</bdi>.*?{reason}', first, re.S)


def test_hostile_titles_stay_text(hostile):
    parsed = Parsed(hostile)
    assert not parsed.tags & {"script", "img", "i", "b", "iframe", "link", "object"}
    for title in SHOWN:
        assert title in parsed.pieces
    assert "<i>v</i>" in parsed.pieces
    assert "49" not in re.findall(r"\w+", parsed.text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", hostile)
    assert "shelf: $x^2$ & \"quotes' <b> (1)" in parsed.text  # drawn as it is, not as a formula


def test_the_page_refers_to_nothing_elsewhere(plain, hostile, no_network):
    for text in (plain, hostile):
        assert all(reference.startswith("#") for reference in Parsed(text).references)
        assert not re.search(r"url\((?!#)|@import|@font-face", text)
        assert "default-src 'none'" in text
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"\w+://[^\s\"'<>]*", plain)) <= names


def test_the_same_page_is_written_twice_but_for_its_date(plain, tmp_path):
    again = written(tmp_path, PLAIN, ("run", "other"))
    date = r"\d{4}-\d\d-\d\d"
    assert re.sub(date, "", again) == re.sub(date, "", plain)


def test_without_intervals_or_epochs_the_page_says_so(tmp_path):
    text = Parsed(written(tmp_path, PLAIN, bootstrap=0)).text
    assert "which may be chance: no interval was asked for" in text
