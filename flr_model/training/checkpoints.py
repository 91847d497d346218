"""Checkpoints that are known to be whole: each gets a list of its files with their SHA-256 when it is complete."""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import TrainerState
from transformers.utils import logging as transformers_logging

from flr_model.checksums import sha256
from flr_model.errors import ArtifactError, ConfigError
from flr_model.replacing import temporary
from flr_model.writing import Claim

logger = logging.getLogger(__name__)

COMPLETE = "complete.json"
"""Written last into a checkpoint: the SHA-256 of every other file by name."""

STATE = "trainer_state.json"


class CheckpointSeal(TrainerCallback):  # type: ignore[misc]
    """Marks every checkpoint as complete when all its files are written."""

    def on_save(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Seal the checkpoint of this step when every process has written its part; the first one does."""
        args.distributed_state.wait_for_everyone()
        if args.should_save:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        args.distributed_state.wait_for_everyone()


class CheckpointedTrainer(Trainer):  # type: ignore[misc]
    """A Trainer that goes on from whole checkpoints only, and ends with the best one or an error."""

    def run(self, *, resume: bool) -> None:
        """Train, from the newest whole checkpoint when ``resume`` and there is one.

        Raises:
            ArtifactError: if a checkpoint cannot be written, or the best one is not whole at the end.
        """
        last = newest_whole(Path(self.args.output_dir)) if resume else None
        set_seed(self.args.seed)
        with _only_errors():  # a frozen backbone is missing from checkpoints on purpose
            self.train(resume_from_checkpoint=None if last is None else str(last))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save, and say it in one way if that fails: the libraries' exceptions differ."""
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ArtifactError(
                f"a checkpoint could not be written to {self.args.output_dir}: {reason}",
                hint="make room on the disk, then go on with the same command and --resume",
            ) from error

    def _load_best_model(self) -> None:
        """Load the best checkpoint, which lies in this folder whatever path it had when it was written."""
        best = Path(self.args.output_dir) / Path(self.state.best_model_checkpoint).name
        if problem := fault(best):
            raise ArtifactError(f"the best checkpoint {best} {problem}", hint="train again without --resume")
        self.state.best_model_checkpoint = str(best)
        super()._load_best_model()


def processes(folder: Path) -> PartialState:
    """Return the processes of this training, connected as the Trainer connects them; ``folder`` is not written."""
    arguments = TrainingArguments(output_dir=str(folder), report_to=[])
    _ = arguments.device  # connects them
    state: PartialState = arguments.distributed_state
    return state


@contextmanager
def checkpoint_folder(place: Claim, origin: str, *, resume: bool) -> Iterator[tuple[Path, bool]]:
    """Give the folder of checkpoints, deleted when the block ends well, and whether this process is the one to write.

    Several processes run under `accelerate launch`; they enter and leave the block together.
    """
    folder = place.beside("checkpoints")
    state = processes(folder)
    with state.main_process_first():
        if state.is_main_process:
            _begin(folder, origin, resume=resume)
    yield folder, state.is_main_process
    if state.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
    state.wait_for_everyone()


def _begin(folder: Path, origin: str, *, resume: bool) -> None:
    """Make the folder of checkpoints, emptied unless an equal call is resumed: of the same settings and dataset."""
    begun = folder / "config.toml"
    if resume and begun.exists():
        if begun.read_text(encoding="utf-8") != origin:
            raise ConfigError(
                f"{folder} was begun with other settings or another dataset",
                hint="give the same settings and dataset, or leave --resume out",
            )
        return
    if resume:
        logger.warning("nothing to resume at %s: starting from the beginning", folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    begun.write_text(origin, encoding="utf-8")


def seal(folder: Path) -> None:
    """Write the list of a checkpoint's files."""
    digests = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != COMPLETE}
    new = temporary(folder / COMPLETE)
    new.write_text(json.dumps(digests, indent=1), encoding="utf-8")
    os.replace(new, folder / COMPLETE)


def fault(folder: Path) -> str | None:
    """Say what keeps a checkpoint from being used; None if it is whole."""
    if not folder.is_dir():
        return "is gone"
    try:
        digests = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
        if missing := sorted(name for name in digests if not (folder / name).is_file()):
            return f"lacks {', '.join(missing)}"
        changed = [name for name, digest in digests.items() if sha256(folder / name) != digest]
    except FileNotFoundError:
        return "was not written to its end"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"cannot be read ({error})"
    return f"has a damaged {', '.join(changed)}" if changed else None


def newest_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint to go on from, and say which newer ones cannot be used; these are removed.

    Args:
        folder: with ``checkpoint-STEP`` folders. The best checkpoint that a state names must be whole, too.
    """
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    found.sort(key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True)
    for path in found:
        problem = fault(path)
        if problem is None and (best := best_of(path)) is not None and (reason := fault(best)):
            problem = f"names the best checkpoint {best.name}, which {reason}"
        if problem is None:
            logger.info("going on from %s", path)
            return path
        logger.warning("the checkpoint %s %s: it is not used", path, problem)
        shutil.rmtree(path, ignore_errors=True)  # another process of this training may do so too
    if found:
        logger.warning("no checkpoint in %s is whole: starting this stage from its beginning", folder)
    return None


def best_of(checkpoint: Path) -> Path | None:
    """Return the best checkpoint until then, which lies beside it whatever path it had when it was written."""
    best = TrainerState.load_from_json(str(checkpoint / STATE)).best_model_checkpoint
    return checkpoint.with_name(Path(best).name) if best else None


@contextmanager
def _only_errors() -> Iterator[None]:
    """Keep the Trainer's warnings from the person."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
