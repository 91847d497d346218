"""Fixtures that tests of several folders share; heavy imports stay inside them, for an environment without torch."""

import importlib.util
import logging
import os
import socket
from collections import Counter

import pytest
from hypothesis import settings

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["flr_model/nn/*", "flr_model/training/*"]

# Before anything imports huggingface_hub, which reads them once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# An example may take long: on a busy machine another process has the core.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_collection_modifyitems(items):
    """Let each report carry the fault that its test tries; files of slow and of many tests come first.

    Two workers then end together (`make test` turns off the order of pytest-xdist, which only knows how many tests a
    file has).
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in slow, -tests[item.path], str(item.path)))
    for item in items:
        if mark := item.get_closest_marker("fault"):
            item.user_properties.append(("fault", mark.args[0]))


def pytest_terminal_summary(terminalreporter, config):
    """Print how often each fault was tried, with `-m fault`."""
    if config.option.markexpr != "fault":
        return
    tried = Counter()
    for report in terminalreporter.stats.get("passed", []):
        known = dict(report.user_properties)
        if "fault" in known:
            tried[known["fault"]] += known.get("tried", 1)
    terminalreporter.section("faults tried, and met as promised")
    for fault, times in tried.most_common():
        terminalreporter.line(f"{fault:<14} {times:>7,}")


@pytest.fixture(scope="session", autouse=True)
def flr_cache(tmp_path_factory):
    """The cache folder of all tests; nothing reads or writes the person's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLR_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _loggers():
    """A command that runs in this process takes the library's messages to itself; the next test gets them again."""
    loggers = [logging.getLogger(name) for name in ("flr", "flr_cli", "flr_cli.progress", "flr_export", "flr_model")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to reach another machine fails."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"a test without network tried to connect: {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory):
    """Folder of a random 2-layer language model of width 32, with tokenizer.json."""
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    from tests.builders import write_backbone

    return write_backbone(tmp_path_factory.mktemp("backbone") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_sentence_encoder(tmp_path_factory):
    """Folder of a random 2-layer sentence encoder of width 24, with tokenizer.json and its pooling."""
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    from tests.builders import write_sentence_encoder

    return write_sentence_encoder(tmp_path_factory.mktemp("backbone") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_catalog():
    """60 items: ten titles on each of six shelves."""
    from tests.builders import TITLES, catalog_of

    return catalog_of(TITLES)


@pytest.fixture(scope="session")
def tiny_raw(tmp_path_factory):
    """Folder with interactions.csv and items.csv of 120 users."""
    from tests.builders import write_raw_files

    return write_raw_files(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory, tiny_raw):
    """Dataset folder of `tiny_raw`. Tests do not write into it."""
    from tests.builders import prepare_dataset

    return prepare_dataset(tiny_raw, tmp_path_factory.mktemp("dataset") / "tiny")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, tiny_backbone, tiny_dataset):
    """Run folder trained on `tiny_dataset`: items encoding, two factors. Tests do not write into it."""
    from flr_model.training.sft import train
    from tests.builders import tiny_model, tiny_train

    out = tmp_path_factory.mktemp("runs") / "tiny"
    train(tiny_dataset, out, model=tiny_model(tiny_backbone), train=tiny_train())
    return out


@pytest.fixture(scope="session")
def tiny_text_run(tmp_path_factory, tiny_backbone, tiny_dataset):
    """Likewise with histories as text."""
    from flr_model.training.sft import train
    from tests.builders import tiny_model, tiny_train

    out = tmp_path_factory.mktemp("runs") / "tiny-text"
    train(tiny_dataset, out, model=tiny_model(tiny_backbone, encoding="text"), train=tiny_train(epochs=1))
    return out


@pytest.fixture(scope="session")
def tiny_title_run(tmp_path_factory, tiny_backbone, tiny_dataset):
    """Likewise with the decoder that writes titles, its backbone tuned, and no guidance unless it is asked for."""
    from flr_model.config import TitleConfig
    from flr_model.training.sft import train
    from tests.builders import tiny_model, tiny_train

    out = tmp_path_factory.mktemp("runs") / "tiny-title"
    settings = tiny_train(epochs=3, backbone_learning_rate=2e-2, title_epochs=1, reasoner_learning_rate=1e-3)
    model = tiny_model(tiny_backbone, decoder="title", title=TitleConfig(guidance=0.0))
    train(tiny_dataset, out, model=model, train=settings)
    return out
