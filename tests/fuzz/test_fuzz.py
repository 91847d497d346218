"""Whatever a file or a folder holds, reading it ends in a result or in an error of flr, never in another exception.

`FLR_FUZZ` is the number of inputs, over all kinds; `make fuzz` tries ten thousand.
"""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flr_export.runtime import load_bundle
from flr_export.scoring.inputs import HistoryFile
from flr_export.scoring.rules import ItemRules
from flr_export.scoring.score import score_file
from flr_model.artifacts import MANIFEST
from flr_model.config import FilesConfig, PrepareConfig, ScoreConfig
from flr_model.config_io import ALL, build, model_config, read_tables
from flr_model.data.dataset import SPLITS, Dataset
from flr_model.data.interactions import read_interactions
from flr_model.data.items import open_items, read_items
from flr_model.data.prepare import Sources, prepare
from flr_model.data.presplit import read_split
from flr_model.errors import FlrError
from flr_model.files.reading import Reading
from tests.builders import reseal
from tests.export.toy import toy_recommender, write_toy_bundle
from tests.fuzz.inputs import Files, given_files, packed, parquet, plausible, records, settings_files, texts

pytestmark = pytest.mark.fault("fuzzed")

INPUTS = int(os.environ.get("FLR_FUZZ", "300"))


@pytest.fixture
def fuzz(record_property):
    """Run a check on a share (of a hundred) of all inputs."""

    def run(share: int, strategy: st.SearchStrategy, check: Callable[..., None]) -> None:
        tried = 0

        @settings(
            max_examples=max(INPUTS * share // 100, 1),
            deadline=None,
            database=None,
            derandomize="FLR_FUZZ" not in os.environ,
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy, given_files())
        def try_one(drawn, files):
            nonlocal tried
            tried += 1
            with contextlib.suppress(FlrError):
                check(drawn, files)

        try_one()
        record_property("tried", tried)

    return run


def read_in_every_role(path: Path, files: FilesConfig) -> None:
    """Read a file as every command does; most files are good for no or for some roles."""
    readings = [
        Reading.of(files, "interactions"),
        Reading(),
        Reading(time=False, header=False),
        Reading(names={"user_id": "1", "item_id": "2", "title": "3"}),
    ]
    catalog = toy_recommender().catalog
    for reading in readings:
        for read in (
            lambda r: read_interactions(path, r),
            lambda r: read_split(path, r),
            lambda r: read_items(open_items(path, r), r, np.asarray(["i1", "1"], object)),
            lambda r: list(HistoryFile.open(path, r).entries()),
            lambda r: list(HistoryFile.open(path, r, "wide").entries()),
            lambda r: ItemRules(path, path).offered(catalog, lambda role: r),
        ):
            try:
                read(reading)
            except FlrError as error:
                assert path.name in error.message  # noqa: PT017


@pytest.mark.parametrize(("share", "content"), [(25, texts), (15, records), (15, parquet), (10, packed)])
def test_files(fuzz, tmp_path, share, content):
    path = tmp_path / "file.data"

    def check(content: bytes, files: Callable[[], FilesConfig]) -> None:
        path.write_bytes(content)
        read_in_every_role(path, files())

    fuzz(share, content(), check)


def test_commands(fuzz, tmp_path):
    interactions, items, parts = tmp_path / "interactions.csv", tmp_path / "items.csv", tmp_path / "parts"

    def check(drawn: Files, given: Callable[[], FilesConfig]) -> None:
        interactions.write_bytes(drawn.interactions)
        items.write_bytes(drawn.items)
        source = interactions
        if drawn.folder is not None:
            parts.mkdir(exist_ok=True)
            (parts / "part-0").write_bytes(drawn.interactions[: drawn.folder])
            (parts / "part-1").write_bytes(drawn.interactions[drawn.folder :])
            source = parts
        with contextlib.suppress(FlrError):
            files = given() if drawn.folder is None else FilesConfig()
            out = tmp_path / "data"
            prepare(Sources(interactions=source, items=items, files=files), out, PrepareConfig(), overwrite=True)
            dataset = Dataset.open(out)
            assert all(len(dataset.rows(split)) > 0 for split in SPLITS)
        score_file(
            toy_recommender(),
            source,
            tmp_path / "recs.csv",
            config=ScoreConfig(threads=1),
            items=items,
            candidates=source if len(drawn.items) % 2 else None,
            overwrite=True,
        )

    fuzz(15, plausible(), check)


def test_settings(fuzz, tmp_path):
    path = tmp_path / "flr.toml"

    def check(content: bytes, _: object) -> None:
        path.write_bytes(content)
        tables = read_tables(path)
        for config in ALL:
            with contextlib.suppress(FlrError):
                build(config, tables.get(config.table, {}))
        model_config(tables)

    fuzz(10, settings_files(), check)


@st.composite
def damage(draw: st.DrawFn) -> tuple[int, int, int, bool]:
    """Which of a folder's files, which of its bytes, the byte instead, and whether the manifest agrees with it."""
    return draw(st.integers(0, 99)), draw(st.integers(0, 2**20)), draw(st.integers(0, 255)), draw(st.booleans())


def open_dataset(folder: Path) -> None:
    dataset = Dataset.open(folder)
    for split in SPLITS:
        dataset.rows(split)


def open_run(folder: Path) -> None:
    from flr_model.nn.run import load_run

    load_run(folder)


def open_bundle(folder: Path) -> None:
    load_bundle(folder, threads=1)


@pytest.mark.parametrize("open_whole", [open_dataset, open_run, open_bundle])
def test_folders(fuzz, tmp_path, request, open_whole):
    made = {"open_dataset": "tiny_dataset", "open_run": "tiny_run"}.get(open_whole.__name__)
    folder = tmp_path / "folder"
    if made:
        shutil.copytree(request.getfixturevalue(made), folder)
    else:
        pytest.importorskip("onnx")
        write_toy_bundle(folder)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = (folder / MANIFEST).read_bytes()

    def check(damage: tuple[int, int, int, bool], _: object) -> None:
        which, place, byte, sealed = damage
        path = paths[which % len(paths)]
        right = path.read_bytes()
        wrong = bytearray(right)
        wrong[place % len(right)] = byte
        path.write_bytes(wrong)
        try:
            if sealed and path.name != MANIFEST:
                reseal(folder)
            if wrong != right and not (sealed or path.name == MANIFEST):
                with pytest.raises(FlrError):
                    open_whole(folder)
            else:
                open_whole(folder)
        finally:
            path.write_bytes(right)
            (folder / MANIFEST).write_bytes(manifest)

    fuzz(4, damage(), check)
