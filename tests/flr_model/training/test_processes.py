import os
import subprocess
import sys
from pathlib import Path

import pytest

from flr_model.artifacts import open_folder
from flr_model.config_io import dump_toml
from tests.builders import tiny_model, tiny_train

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_two_processes_share_the_steps_and_one_writes_and_speaks(tmp_path, tiny_dataset, tiny_backbone, tiny_run):
    (tmp_path / "tiny.toml").write_text(dump_toml([tiny_model(tiny_backbone), tiny_train()]))
    words = ["train", str(tiny_dataset), "--out", str(tmp_path / "run"), "--config", str(tmp_path / "tiny.toml")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "flr_cli", *words],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained") == 1
    steps = open_folder(tmp_path / "run", "run").content["report"]["steps"]
    alone = open_folder(tiny_run, "run").content["report"]["steps"]
    assert steps == -(-alone // 4) * 2  # two epochs, each of half the steps, rounded up
    assert not (tmp_path / ".run.checkpoints").exists()
