import csv
import json

import pytest

from flr_cli.app import main
from flr_model.artifacts import open_folder
from tests.builders import reseal
from tests.export.toy import write_toy_bundle

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")  # to build the bundle

LONG = "user_id,item_id,timestamp\nu,a,1\nv,b,1\nv,d,2\n"


@pytest.fixture
def bundle(tmp_path):
    return write_toy_bundle(tmp_path / "bundle")


@pytest.fixture
def flr(bundle, tmp_path, capsys):
    """Explain a user of a file with this text: exit code, stdout, stderr."""

    def explain(text, *words):
        (tmp_path / "h.csv").write_text(text)
        code = main(["explain", str(bundle), "--histories", str(tmp_path / "h.csv"), *words])
        return code, *capsys.readouterr()

    return explain


def explained(run):
    code, out, err = run
    assert code == 0, err
    return json.loads(out)


def test_the_tables_have_facets_recommendations_and_history(flr, monkeypatch):
    monkeypatch.setattr("flr_cli.console.out.width", 120)
    code, out, _ = flr(LONG, "--user", "v", "--top-k", "2")
    assert code == 0
    lines = [[cell.strip() for cell in line.split("│")] for line in out.splitlines()]
    assert out.startswith("User v (history items read: 2)")
    # Exponentials of factor 1: b, d, f e^(.95 x 1, .9, .8), the others 1, together 10.0754; P(f) = .75 .2122 + .25 / 6.
    # Words: two, one 2 log(6/2), odd 3 log(6/3), even 2 log(6/3), three log(6/2).
    assert ["1", "two, one, odd", "0.7500", "odd two", "0.5000", "odd three", "0.2122"] in lines
    assert ["", "", "", "odd one", "0.5000", "even one", "0.0993"] in lines
    assert ["1", "f", "odd three", "0.2008", "0.7925", "0.2075", "0.0000"] in lines
    # f is like b and d, in the ratio of .8 x 1 to .8 x .9
    assert ["odd three", "odd one", "0.5263"] in lines
    assert ["", "odd two", "0.4737"] in lines


def test_the_json_has_the_numbers_of_score(flr, bundle, tmp_path):
    found = explained(flr(LONG, "--user", "v", "--json"))
    out = tmp_path / "recs.csv"
    assert main(["score", str(bundle), str(tmp_path / "h.csv"), "--out", str(out), "--quiet"]) == 0
    with out.open() as file:
        rows = [row for row in csv.DictReader(file) if row["user_id"] == "v"]
    assert len(rows) == len(found["reasons"]) == 4
    for row, reason in zip(rows, found["reasons"], strict=True):
        assert (row["rank"], row["item_id"]) == (str(reason["rank"]), reason["item_id"])
        assert float(row["score"]) == pytest.approx(reason["probability"], rel=1e-4)
        assert [float(row["factor_1"]), float(row["factor_2"])] == pytest.approx(reason["shares"], abs=1e-4)
        assert float(row["counted"]) == pytest.approx(reason["counted"], abs=1e-4)
        assert row["because_item_id"] == (reason["history"][0]["item_id"] if reason["history"] else "")
    assert [facet["gate"] for facet in found["facets"]] == [0.75, 0.25]
    assert found["facets"][0]["looks_at"] == [
        {"item_id": "d", "title": "odd two", "share": 0.5},
        {"item_id": "b", "title": "odd one", "share": 0.5},
    ]


def test_one_item_that_pairs_put_forward(flr):
    (reason,) = explained(flr(LONG, "--user", "u", "--item", "f", "--json"))["reasons"]
    # ln 2 of counts: half of factor 1's weight of f, whose share is .7594
    assert (reason["rank"], reason["item_id"], reason["counted"]) == (3, "f", pytest.approx(0.7594 / 2, abs=1e-4))
    assert [part["item_id"] for part in reason["history"]] == ["a"]


def test_an_item_of_the_history_is_not_called_a_recommendation(flr):
    code, out, _ = flr(LONG, "--user", "u", "--item", "a")
    assert code == 0
    assert "even one is in the history: only `flr score --allow-seen` recommends it." in out


def test_a_recommendation_that_no_history_item_carries_says_so(flr):
    _, out, _ = flr(LONG, "--user", "u", "--item", "b")
    assert [cell.strip() for cell in out.splitlines()[-1].split("│")] == ["odd one", "none", "-"]


def test_a_user_who_has_seen_everything(flr):
    code, out, _ = flr("user_id,items\nu,a b c d e f\n", "--user", "u")
    assert code == 0
    assert out.endswith("The user has seen every item: nothing is left to recommend.\n")


@pytest.mark.parametrize(
    ("text", "words", "code", "said"),
    [
        (LONG, "--user w", 3, "has no user 'w'; it has for instance u, v"),
        ("user_id,items\n" + "".join(f"{u},a b\n" for u in "pqqrs"), "--user w", 3, "it has for instance p, q, r\n"),
        ("user_id,item_id,timestamp\nu,x,1\n", "--user u", 3, "line 2 (user u): none of its 1 items is known"),
        ("user_id,item_id,timestamp\nu,a,1\n", "--user u --item zz", 3, "item 'zz' is none of the 6"),
        (LONG, "--user u --item f --top-k 3", 2, "--top-k would have no effect with --item"),
        (LONG, "--user u --top-k 0", 2, "--top-k"),
        ("user_id,rating\nu,1\n", "--user u", 3, "has no item_id column"),
    ],
)
def test_what_cannot_be_explained_is_one_message(flr, text, words, code, said):
    got, out, err = flr(text, *words.split())
    assert (got, out) == (code, "")
    assert said in err


def test_unknown_items_and_broken_lines_of_the_user_are_warned_of(flr):
    code, _, err = flr("user_id,item_id,timestamp\nu,a,1\nu,x,2\nu,b,soon\nv,b,soon\nv,a,2\n", "--user", "u", "--json")
    assert code == 0
    assert "1 of the 2 history items of user u are unknown and left out, for instance x" in err
    assert "1 rows of user u are left out, for instance line 4" in err


def test_of_several_rows_in_wide_form_the_last_one_counts(flr):
    code, out, err = flr("user_id,items\nu,a b\nv,a\nu,d\n", "--user", "u", "--json")
    assert code == 0
    assert [part["item_id"] for part in json.loads(out)["facets"][0]["looks_at"]] == ["d"]
    assert "user u has 2 rows; the last one, line 4, is explained" in err


def test_columns_are_those_that_the_bundle_remembers_or_flags_name(flr, bundle):
    text = "note,kunde,artikel,wann\n1,u,a,3\n"
    flags = ["--user-col", "kunde", "--item-col", "artikel", "--time-col", "wann"]
    assert explained(flr(text, "--user", "u", "--json", *flags))["user_id"] == "u"
    remembered = {"columns": {"user_id": "kunde", "item_id": "artikel", "timestamp": "wann"}}
    content = open_folder(bundle, "bundle").content
    reseal(bundle, content={**content, "reading": {"interactions": remembered}})
    assert explained(flr(text, "--user", "u", "--json"))["user_id"] == "u"


def test_a_run_in_place_of_a_bundle_is_answered_with_the_export(tiny_run, tiny_raw, capsys):
    code = main(["explain", str(tiny_run), "--user", "u0", "--histories", str(tiny_raw / "interactions.csv")])
    assert code == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "expected a bundle, got a run" in said
    assert f"flr export {tiny_run} --onnx --out bundle" in said
