"""From files to a bundle: five of the stages as functions, with the settings of the command line.

The commands call them. Paths may be text. What messages call ``--n-factors`` is ``ModelConfig(n_factors=...)``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flr.paths import PathLike, as_path
from flr_model.config import (
    AlignConfig,
    ExportConfig,
    FilesConfig,
    ModelConfig,
    PrepareConfig,
    TrainConfig,
    UpdateConfig,
)
from flr_model.errors import ConfigError, needs_extra
from flr_model.progress import SILENT, Progress

if TYPE_CHECKING:
    import pandas as pd

    from flr_export.building.build import ExportReport
    from flr_model.data.report import DataReport
    from flr_model.training.grpo import AlignReport
    from flr_model.training.sft import TrainReport
    from flr_model.training.update import UpdateReport


def prepare(
    out: PathLike,
    *,
    interactions: PathLike | pd.DataFrame | None = None,
    items: PathLike | pd.DataFrame | None = None,
    train: PathLike | pd.DataFrame | None = None,
    valid: PathLike | pd.DataFrame | None = None,
    test: PathLike | pd.DataFrame | None = None,
    config: PrepareConfig | None = None,
    files: FilesConfig | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> DataReport:
    """Turn interactions and items into a dataset (`flr prepare`).

    Args:
        out: the dataset folder to write.
        interactions: users, items and times, as a file or a frame.
        items: ids and titles; None takes those of the interactions' own columns.
        train: rows of histories and targets of a ready-made split, instead of interactions.
        valid: likewise, for validation.
        test: likewise, for the test.
        config: how rows are held out.
        files: how the files are read, where their content does not tell.
        overwrite: replace a dataset at ``out``.
        progress: is told of steps.

    Raises:
        DataError: if the input cannot be used.
        ArtifactError, ConfigError: if the output or a setting cannot be used.
    """
    from flr.frames import as_files
    from flr_model.data import prepare as library

    given = {"interactions": interactions, "items": items, "train": train, "valid": valid, "test": test}
    with as_files(given) as paths:
        sources = library.Sources(**paths, files=files or FilesConfig(), memory={})
        return library.prepare(sources, Path(out), config or PrepareConfig(), overwrite=overwrite, progress=progress)


def train(
    dataset: PathLike,
    out: PathLike,
    *,
    model: ModelConfig | None = None,
    train: TrainConfig | None = None,
    refit: PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> TrainReport:
    """Fine-tune a language model on a dataset (`flr train`).

    Args:
        dataset: made by `prepare`.
        out: the run folder to write.
        model: the shape of the model.
        train: settings of the training.
        refit: a run whose settings and number of epochs are repeated on train + valid rows; then no others count, but
            ``train.report_to``, which says where figures go.
        resume: go on from the checkpoints of an interrupted call.
        overwrite: replace a run at ``out``.
        progress: is told of titles, steps and losses.

    Raises:
        ArtifactError, ConfigError, DataError: if something given cannot be used.
        MissingExtraError: if the extra `train` is not installed.
    """
    train = train or TrainConfig()
    if refit is not None and (model or train != TrainConfig(report_to=train.report_to)):
        raise ConfigError("settings would have no effect with refit", hint="leave out all but train.report_to")
    with needs_extra("train"):
        from flr_model.training import sft
    return sft.train(
        Path(dataset),
        Path(out),
        model=model or ModelConfig(),
        train=train,
        refit=None if refit is None else Path(refit),
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    )


def align(
    run: PathLike,
    out: PathLike,
    *,
    config: AlignConfig | None = None,
    data: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> AlignReport:
    """Align a run's reasoning with what users chose next (`flr align`); kept only if validation gets better.

    Args:
        run: made by `train`.
        out: the run folder to write.
        config: settings of the alignment.
        data: the dataset; None takes the one that the run names.
        overwrite: replace a run at ``out``.
        progress: is told of steps and rewards.

    Raises:
        ArtifactError, ConfigError, DataError: if something given cannot be used.
        MissingExtraError: if the extra `train` is not installed.
    """
    with needs_extra("train"):
        from flr_model.training import grpo
    return grpo.align(
        Path(run),
        Path(out),
        align=config or AlignConfig(),
        data=as_path(data),
        overwrite=overwrite,
        progress=progress,
    )


def update(
    source: PathLike,
    interactions: PathLike | pd.DataFrame,
    out: PathLike,
    *,
    items: PathLike | pd.DataFrame | None = None,
    config: UpdateConfig | None = None,
    data: PathLike | None = None,
    data_out: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> UpdateReport:
    """Go on with a run when there are new interactions (`flr update`).

    Args:
        source: the run in use, or the bundle that was made of it.
        interactions: everything until now, or what is new, as a file or a frame.
        out: the run folder to write.
        items: ids and titles of new items; known ones may be among them.
        config: what is held out, how long it learns, and which loss is accepted.
        data: the dataset; None takes the one that the run names.
        data_out: the folder of the dataset of all interactions; None puts it beside ``out``, as OUT-data.
        overwrite: replace what is at ``out`` and ``data_out``.
        progress: is told of rows and steps.

    Raises:
        ArtifactError, ConfigError, DataError: if something given cannot be used.
        GateError: if the updated run is worse on the newest rows; nothing is written then.
        MissingExtraError: if the extra `train` is not installed.
    """
    from flr.frames import as_files

    with needs_extra("train"):
        from flr_model.training import update as library
    with as_files({"interactions": interactions, "items": items}) as paths:
        return library.update(
            Path(source),
            paths["interactions"] or Path(),
            Path(out),
            items=paths["items"],
            config=config or UpdateConfig(),
            data=as_path(data),
            data_out=as_path(data_out),
            overwrite=overwrite,
            progress=progress,
        )


def export(
    run: PathLike,
    out: PathLike,
    *,
    config: ExportConfig | None = None,
    data: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> ExportReport:
    """Write a bundle (`flr export --onnx`): ONNX graphs, compared with torch before they are kept.

    Args:
        run: made by `train` or `align`.
        out: the bundle folder to write.
        config: precision and tolerances.
        data: the dataset with the validation rows; None takes the one that the run names.
        overwrite: replace a bundle at ``out``.
        progress: is told of validation rows.

    Raises:
        ArtifactError, ConfigError: if something given cannot be used.
        GateError: if the graphs differ from torch; nothing is written then.
        MissingExtraError: if onnxruntime or the extra `train` is not installed.
    """
    from flr_model.artifacts import BUNDLE, open_folder
    from flr_model.writing import check_target

    run, out, dataset = Path(run), Path(out), as_path(data)
    open_folder(run, "run")
    check_target(out, BUNDLE.kind, inputs=(run, dataset), overwrite=overwrite)
    with needs_extra("cpu"):
        import onnxruntime  # noqa: F401
    with needs_extra("train"):
        from flr_export.building.build import export_bundle
        from flr_model.nn.run import load_run
    return export_bundle(
        load_run(run),
        run,
        out,
        config=config or ExportConfig(),
        data=dataset,
        overwrite=overwrite,
        progress=progress,
    )
