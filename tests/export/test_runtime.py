import sys
import types

import numpy as np
import pytest

from flr_export.runtime import load_bundle
from flr_export.sessions import choose_providers, open_session, run
from flr_model.data.histories import HistoryRows
from flr_model.errors import ArtifactError, MissingExtraError
from flr_model.ranking.lags import PaddedHistories
from tests.builders import reseal
from tests.export.toy import IDS, MAX_HISTORY, TITLES, VECTORS, ToyReader, toy_joint, toy_recommender, write_toy_bundle


@pytest.fixture
def bundle(tmp_path):
    return write_toy_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("make", [lambda folder: toy_recommender(), load_bundle], ids=["numpy", "onnx"])
def test_recommendations_are_those_worked_out_by_hand(bundle, make):
    ranking = make(bundle).recommend(HistoryRows.from_lists([[0], [1, 3]]), 3)
    assert ranking.items.tolist() == [[2, 4, 5], [5, 0, 2]]
    joint = np.stack([toy_joint([0]), toy_joint([1, 3])])
    best = np.take_along_axis(joint, ranking.items[:, None], axis=2)  # (B, K, k)
    np.testing.assert_allclose(np.exp(ranking.scores), best.sum(1), rtol=1e-5)
    np.testing.assert_allclose(ranking.shares, (best / best.sum(1, keepdims=True)).transpose(0, 2, 1), rtol=1e-5)
    # Half of the first factor's weight of f comes of the count.
    np.testing.assert_allclose(ranking.counted, [[0, 0, ranking.shares[0, 2, 0] / 2], [0, 0, 0]], atol=1e-6)
    # a is like c and e, and was bought with f; b and d are like f, b more than d; a and c are like neither.
    assert ranking.because.tolist() == [[0, 0, 0], [1, -1, -1]]


@pytest.mark.parametrize("lengths", [(1,), (3, 1, 2), (1, 2, 3, 1, 2)])
def test_onnx_reader_agrees_with_numpy_for_any_batch(bundle, lengths):
    histories = PaddedHistories.of(HistoryRows.from_lists([list(range(n)) for n in lengths]), MAX_HISTORY, np.zeros(1))
    expected = ToyReader().read(histories, VECTORS, TITLES)
    states = load_bundle(bundle).reader.read(histories, VECTORS, TITLES.tolist())
    for name in ("queries", "gates", "attention", "weights", "factors"):
        np.testing.assert_allclose(getattr(states, name), getattr(expected, name), atol=1e-6)


def test_only_the_newest_items_are_read_but_all_are_hidden(bundle):
    ranking = load_bundle(bundle).recommend(HistoryRows.from_lists([[0, 1, 3, 5]]), 6)
    assert ranking.items[0].tolist() == [2, 4, -1, -1, -1, -1]
    # Item a, the only even one, is the fourth newest of three that are read.
    assert ranking.scores[0, 0] == ranking.scores[0, 1] == pytest.approx(np.log(toy_joint([1, 3, 5])[:, 2].sum()))


def test_text_reader_gets_the_tokens_of_the_titles(tmp_path):
    recommender = load_bundle(write_toy_bundle(tmp_path / "text", encoding="text"))
    rows = HistoryRows.from_lists([[0], [4, 1], []])
    assert recommender.states(rows.select(slice(0, 2))).factors[:, 0, 0].tolist() == [1 + 3, 1 + 5 + 2 + 3]
    assert recommender.states(rows.select(slice(0, 1))).factors[:, 0, 0].tolist() == [4]


def test_new_items_are_scored_from_their_titles_whatever_their_length(bundle):
    recommender = load_bundle(bundle).with_items(["g", "h", "i"], ["even more of odd", "", "even"])
    assert recommender.vectors[6:].tolist() == [[1, 1], [0, 0], [1, 0]]
    ranking = recommender.recommend(HistoryRows.from_lists([[0]]), 2)
    assert recommender.catalog.item_ids[ranking.items[0]].tolist() == ["g", "i"]


def test_item_vectors_stay_on_disk(bundle):
    vectors = load_bundle(bundle).vectors
    assert type(vectors) is np.ndarray
    assert isinstance(vectors.base, np.memmap)


def test_cuda_is_chosen_when_present():
    both = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert choose_providers(both) == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert choose_providers(["AzureExecutionProvider", "CPUExecutionProvider"]) == ["CPUExecutionProvider"]


def test_on_a_gpu_the_fp32_graph_is_used(tmp_path, monkeypatch):
    bundle = write_toy_bundle(
        tmp_path / "bundle", files={"reader": "reader.int8.onnx", "item_encoder": "item_encoder.onnx"}
    )
    opened = []
    monkeypatch.setattr("flr_export.runtime.open_session", lambda graph, **_: opened.append(graph.name))
    (bundle / "reader.int8.onnx").touch()
    for gpu in (False, True):
        monkeypatch.setattr("flr_export.runtime.on_gpu", lambda gpu=gpu: gpu)
        load_bundle(bundle)
    assert opened == ["reader.int8.onnx", "reader.onnx"]


@pytest.mark.parametrize(
    "message",
    ["BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer", "CUDA error: out of memory"],
)
def test_memory_that_runs_out_on_the_device_is_a_memory_error(message):
    class Session:
        def get_inputs(self):
            return []

        def run(self, outputs, feeds):
            raise RuntimeError(message)

    with pytest.raises(MemoryError):
        run(Session(), ["y"], {})


def test_other_errors_of_a_session_stay_what_they_are():
    class Session:
        def get_inputs(self):
            return []

        def run(self, outputs, feeds):
            raise RuntimeError("Invalid rank for input")

    with pytest.raises(RuntimeError, match="Invalid rank"):
        run(Session(), ["y"], {})


def test_session_gets_the_threads_and_no_memory_pattern(monkeypatch, tmp_path):
    seen = {}

    def session(path, options, providers):
        seen.update(options=options, providers=providers)

    fake = types.SimpleNamespace(
        SessionOptions=types.SimpleNamespace,
        InferenceSession=session,
        __version__="0",
        get_available_providers=lambda: ["CPUExecutionProvider"],
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    open_session(tmp_path / "x.onnx", threads=2, arena=False)
    assert seen["options"].intra_op_num_threads == 2
    assert seen["options"].enable_mem_pattern is False
    assert seen["options"].enable_cpu_mem_arena is False


def test_missing_onnxruntime_names_the_extra(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError) as caught:
        load_bundle(bundle)
    assert "onnxruntime" in caught.value.message
    assert '[cpu]"' in caught.value.hint


@pytest.mark.fault("damaged")
def test_damaged_graph_is_an_artifact_error(bundle):
    (bundle / "reader.onnx").write_bytes(b"no graph")
    reseal(bundle)
    with pytest.raises(ArtifactError, match=r"reader\.onnx cannot be loaded"):
        load_bundle(bundle)


@pytest.mark.fault("damaged")
@pytest.mark.parametrize("name", ["item_vectors.npy", "evidence.npz", "items.parquet"])
def test_damaged_array_is_an_artifact_error(bundle, name):
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[: len(content) // 3])
    with pytest.raises(ArtifactError, match=rf"{name} is damaged"):
        load_bundle(bundle)
    reseal(bundle)
    with pytest.raises(ArtifactError, match=f"{name} cannot be read"):
        load_bundle(bundle)


@pytest.mark.fault("damaged")
def test_parts_of_different_size_are_refused(bundle):
    np.save(bundle / "item_vectors.npy", VECTORS[:-1])
    reseal(bundle)
    with pytest.raises(ArtifactError, match=f"{len(IDS)} items, 5 item vectors"):
        load_bundle(bundle)
