"""One switch per layer: which head and which encoding is asked where something is built, and nowhere else."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (
    *(
        "flr_model/data",
        "flr_model/evaluation",
        "flr_model/explain",
        "flr_model/nn",
        "flr_model/ranking",
        "flr_model/report",
        "flr_model/titles",
    ),
    *("flr_model/training", "flr", "export", "export/building", "export/scoring", "flr_cli", "flr_cli/commands"),
)
BUILDERS = {"build_model", "build_encoder", "load_run", "load_bundle", "exporter_of"}
VARIANTS = {
    *("Head", "CatalogHead", "TitleHead", "CatalogDecoder", "TitleWriter"),
    *("HistoryEncoder", "ItemsEncoder", "TextEncoder"),
    *("CatalogRecommender", "TitleRecommender"),
}
SETTINGS = {"decoder", "encoding"}


def questions(tree):
    """The lines that ask which variant something is, outside the builders."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef) and node.name in BUILDERS:
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            asked = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
            if asked & VARIANTS:
                yield node.lineno
        if isinstance(node, ast.Compare):
            sides = (node.left, *node.comparators)
            names = {side.attr for side in sides if isinstance(side, ast.Attribute)}
            absent = any(isinstance(side, ast.Constant) and side.value is None for side in sides)
            if names & SETTINGS or (absent and "tree" in names):
                yield node.lineno


@pytest.mark.parametrize(
    "question",
    [
        'config.decoder == "title"',
        '"items" != run.config.encoding',
        "run.tree is None",
        "isinstance(head, CatalogHead)",
        "isinstance(model.encoder, (ItemsEncoder, TextEncoder))",
    ],
)
def test_questions_are_recognised(question):
    assert list(questions(ast.parse(f"def elsewhere():\n    return {question}"))) == [2]
    assert list(questions(ast.parse(f"def build_model():\n    return {question}"))) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_only_builders_ask_which_head_or_encoding_it_is(folder):
    files = sorted((ROOT / folder).glob("*.py"))
    assert files
    found = {path.name: list(questions(ast.parse(path.read_text(encoding="utf-8")))) for path in files}
    assert not {name: lines for name, lines in found.items() if lines}


def test_files_and_functions_stay_short():
    for package in ("flr", "flr_cli", "flr_model", "export"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert len(text.splitlines()) <= 300, path
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 50, (path, node.name)
