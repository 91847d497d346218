"""The import rules of the packages, from their source and in fresh interpreters."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"flr_model": "flr_model", "export": "flr_export", "flr": "flr", "flr_cli": "flr_cli"}
"""The package of each folder."""
LAYERS = list(FOLDERS.values())
HEAVY = {"torch", "transformers", "optimum", "scipy", "peft", "safetensors", "accelerate", "gguf", "onnx"}
HEAVY_PLACES = ("flr_model.nn", "flr_model.training", "flr_export.building")


def module_name(path):
    folder, *inner = path.relative_to(ROOT).with_suffix("").parts
    parts = [FOLDERS[folder], *inner]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
SOURCES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def under(name, places):
    return any(name == place or name.startswith(place + ".") for place in places)


def imported(nodes):
    """Every module that import statements among the nodes name; `from a import b` names a.b if that is a module."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in SOURCES else node.module


def at_import(tree):
    """The nodes that run when the module is imported: not those of functions, nor those only for type checkers."""
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if typing_only:
            pending += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
            pending += ast.iter_child_nodes(node)


ANYWHERE = {(name, wanted) for name, tree in SOURCES.items() for wanted in imported(ast.walk(tree))}
ON_IMPORT = {(name, wanted) for name, tree in SOURCES.items() for wanted in imported(at_import(tree))}


def test_the_sources_are_found():
    assert {
        "flr_cli.app",
        "flr_model.ranking.recommender",
        "flr_model.nn.model",
        "flr_export.runtime",
    } <= SOURCES.keys()


@pytest.mark.parametrize("layer", range(len(LAYERS)))
def test_packages_import_only_downward(layer):
    inside = {(name, wanted) for name, wanted in ANYWHERE if under(name, [LAYERS[layer]])}
    assert inside
    assert not {pair for pair in inside if under(pair[1], LAYERS[layer + 1 :])}


def test_nobody_imports_the_folder_export_by_its_own_name():
    """Its package is `flr_export`: a wheel must not take the name `export` from others."""
    others = [path for folder in ("tests", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")]
    trees = [*SOURCES.values(), *(ast.parse(path.read_text(encoding="utf-8")) for path in others)]
    assert not [wanted for tree in trees for wanted in imported(ast.walk(tree)) if under(wanted, ["export"])]


def test_scoring_imports_only_the_light_part_of_the_model():
    scoring = {
        (name, wanted) for name, wanted in ANYWHERE if under(name, ["flr_export"]) and not under(name, HEAVY_PLACES)
    }
    assert not {pair for pair in scoring if under(pair[1], HEAVY_PLACES)}


def test_light_modules_import_nothing_heavy_when_imported():
    light = {(name, wanted) for name, wanted in ON_IMPORT if not under(name, HEAVY_PLACES)}
    assert not {
        (name, wanted) for name, wanted in light if wanted.split(".")[0] in HEAVY or under(wanted, HEAVY_PLACES)
    }


def test_there_are_no_cycles():
    state = {}

    def visit(name, path):
        assert state.get(name) != "open", " -> ".join([*path[path.index(name) :], name])
        if name not in state:
            state[name] = "open"
            for wanted in sorted(wanted for importer, wanted in ANYWHERE if importer == name and wanted in SOURCES):
                visit(wanted, [*path, name])
            state[name] = "done"

    for name in SOURCES:
        visit(name, [])


def test_packages_list_every_folder_of_the_source():
    text = (ROOT / "pyproject.toml").read_text()
    for package in {module_name(path.with_name("__init__.py")) for path in FILES}:
        assert f'"{package}"' in text


def python(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def without(*modules):
    """Code that makes modules look as if they were not installed."""
    return f"import sys; sys.modules.update(dict.fromkeys({[*modules]!r}))\n"


def test_help_answers_quickly_and_loads_nothing_heavy():
    code = """
import sys
from flr_cli.app import main
assert main(["--help"]) == 0
heavy = {"torch", "transformers", "optimum", "scipy", "onnxruntime", "pandas", "pyarrow", "numpy"}
print("LOADED", *sorted(heavy & {name.split(".")[0] for name in sys.modules}))
"""
    took = []
    for _ in range(3):
        start = time.perf_counter()
        done = python(code)
        took.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
        if took[-1] < 1:
            break
    assert done.stdout.splitlines()[-1] == "LOADED"
    assert "Recommendation with a language model" in done.stdout
    assert min(took) < 3  # below 1 s on a machine that does nothing else


def test_light_modules_import_without_the_heavy_packages():
    light = [name for name in SOURCES if not under(name, HEAVY_PLACES)]
    code = f"import importlib\nfor name in {light!r}: importlib.import_module(name)"
    done = python(without(*sorted(HEAVY), "sklearn") + code)
    assert done.returncode == 0, done.stderr


def test_a_bundle_is_scored_and_explained_without_the_heavy_packages_or_pandas_whose_import_takes_long(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")  # to build the bundle
    from tests.export.toy import write_toy_bundle

    write_toy_bundle(tmp_path / "bundle")
    (tmp_path / "histories.csv").write_text("user_id,item_id,timestamp\nu,a,1\n")
    bundle, histories, out = (str(tmp_path / name) for name in ("bundle", "histories.csv", "recs.csv"))
    score = ["score", bundle, histories, "--out", out]
    explain = ["explain", bundle, "--user", "u", "--histories", histories]
    code = f"from flr_cli.app import main\nsys.exit(main({score!r}) or main({explain!r}))"
    done = python(without(*sorted(HEAVY), "pandas") + code)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "recs.csv").read_text().startswith("user_id,rank,item_id,title,score")
