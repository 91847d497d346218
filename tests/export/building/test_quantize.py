import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from flr_export.building import quantize  # noqa: E402

WIDTH = 64


def write_graph(path, *, second="/m/lm/second/MatMul", shared=False):
    """y = (x A) B, where x A has one channel 1000 times the others; with ``shared`` B is an Identity of A."""
    rng = np.random.default_rng(0)
    first, other = (rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) for _ in range(2))
    first[:, 0] *= 1000
    nodes = [helper.make_node("MatMul", ["x", "A"], ["h"], "/m/lm/first/MatMul")]
    constants = [numpy_helper.from_array(first, "A")]
    if shared:
        nodes.insert(0, helper.make_node("Identity", ["A"], ["B"], "Identity_0"))
    else:
        constants.append(numpy_helper.from_array(other, "B"))
    nodes.append(helper.make_node("MatMul", ["h", "B"], ["y"], second))
    infos = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH])] for name in "xy"]
    graph = helper.make_graph(nodes, "g", *infos, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def feeds():
    return {"x": np.random.default_rng(1).normal(size=(32, WIDTH)).astype(np.float32), "unused": np.zeros(1)}


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def test_the_spread_of_what_each_layer_reads_is_measured(tmp_path, feeds):
    graph = write_graph(tmp_path / "g.onnx")
    spreads = quantize.read_spreads(graph, feeds)
    x = feeds["x"]
    hidden = x @ numpy_helper.to_array(onnx.load(graph).graph.initializer[0])
    for name, values in {"/m/lm/first/MatMul": x, "/m/lm/second/MatMul": hidden}.items():
        expected = (values.min(), values.max(), np.sqrt(np.mean(np.square(values))))
        np.testing.assert_allclose(spreads[name], expected, rtol=1e-4)
    assert spreads["/m/lm/second/MatMul"].extreme > 3 * spreads["/m/lm/first/MatMul"].extreme
    assert [path.name for path in tmp_path.iterdir()] == ["g.onnx"]


def test_values_that_are_all_zero_have_no_extremes():
    assert quantize.Spread(0.0, 0.0, 0.0).extreme == 0


def test_a_gate_that_passes_at_once_quantises_everything(tmp_path, feeds):
    source, target = write_graph(tmp_path / "g.onnx"), tmp_path / "g.int8.onnx"
    assert quantize.quantize_until(source, target, feeds, lambda graph: True) == []
    assert operators(target).count("MatMulIntegerToFloat") == 2
    assert target.stat().st_size < 0.35 * source.stat().st_size


def test_the_worst_layer_stays_in_fp32_when_the_gate_asks_for_it(tmp_path, feeds):
    source, target = write_graph(tmp_path / "g.onnx"), tmp_path / "g.int8.onnx"
    kept = quantize.quantize_until(source, target, feeds, lambda graph: "MatMul" in operators(graph))
    assert kept == ["/m/lm/second/MatMul"]
    assert operators(target).count("MatMulIntegerToFloat") == 1


def test_nothing_is_left_when_no_graph_passes(tmp_path, feeds):
    source, target = write_graph(tmp_path / "g.onnx"), tmp_path / "g.int8.onnx"
    tried = []
    assert quantize.quantize_until(source, target, feeds, lambda graph: tried.append(graph)) is None
    assert len(tried) == 2  # none and one of two layers in fp32
    assert [path.name for path in tmp_path.iterdir()] == ["g.onnx"]


def test_a_graph_without_a_large_constant_matrix_is_left_alone(tmp_path, feeds, monkeypatch):
    monkeypatch.setattr(quantize, "SMALLEST", WIDTH + 1)
    source = write_graph(tmp_path / "g.onnx")
    assert quantize.quantize_until(source, tmp_path / "g.int8.onnx", feeds, pytest.fail) is None


def test_int8_stays_close_to_fp32(tmp_path, feeds):
    source, target = write_graph(tmp_path / "g.onnx"), tmp_path / "g.int8.onnx"
    spreads = quantize.read_spreads(source, feeds)
    quantize.quantize(source, target, {"/m/lm/first/MatMul": spreads["/m/lm/first/MatMul"]})
    fed = {"x": feeds["x"]}
    exact, near = (ort.InferenceSession(str(path)).run(["y"], fed)[0] for path in (source, target))
    assert 0 < np.linalg.norm(exact - near) < 0.03 * np.linalg.norm(exact)


def write_mixed_graph(path):
    """y = Gemm(table[ids], W', b): a look-up, then a product with a transposed matrix and a bias."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(100, WIDTH)) * np.geomspace(0.01, 100, 100)[:, None]
    constants = {"table": table, "W": rng.normal(size=(WIDTH, WIDTH)), "b": rng.normal(size=WIDTH)}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["h"], "look"),
        helper.make_node("Gemm", ["h", "W", "b"], ["y"], "product", transB=1),
    ]
    infos = [
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
    ]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", *infos, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_rows_looked_up_keep_their_own_scale_and_a_transposed_product_its_bias(tmp_path):
    source, target = write_mixed_graph(tmp_path / "g.onnx"), tmp_path / "g.int8.onnx"
    feeds = {"ids": np.asarray([0, 50, 99])}
    spreads = quantize.read_spreads(source, feeds)
    assert set(spreads) == {"look", "product"}
    quantize.quantize(source, target, spreads)
    exact, near = (ort.InferenceSession(str(path)).run(["y"], feeds)[0] for path in (source, target))
    quantize.quantize(source, target, {"look": spreads["look"]})
    looked = ort.InferenceSession(str(target)).run(["y"], feeds)[0]
    assert (np.linalg.norm(looked - exact, axis=1) < 0.02 * np.linalg.norm(exact, axis=1)).all()
    assert np.linalg.norm(near - exact) < 0.03 * np.linalg.norm(exact)


def test_one_scale_serves_all_products_that_read_the_same(tmp_path, feeds):
    source, target = write_graph(tmp_path / "g.onnx"), tmp_path / "g.int8.onnx"
    model = onnx.load(source)
    model.graph.node[1].input[0] = "x"
    onnx.save(model, source)
    assert quantize.quantize_until(source, target, feeds, lambda graph: True) == []
    assert operators(target).count("QuantizeLinear") == 1


def test_a_weight_used_twice_is_quantised_at_both_places(tmp_path, feeds):
    source, target = write_graph(tmp_path / "g.onnx", shared=True), tmp_path / "g.int8.onnx"
    before = ort.InferenceSession(str(source)).run(["y"], {"x": feeds["x"]})[0]
    quantize.show_constants(source)
    assert operators(source) == ["MatMul", "MatMul"]
    np.testing.assert_array_equal(ort.InferenceSession(str(source)).run(["y"], {"x": feeds["x"]})[0], before)
    quantize.quantize_until(source, target, feeds, lambda graph: True)
    assert operators(target).count("MatMulIntegerToFloat") == 2
    matrices = [tensor for tensor in onnx.load(target).graph.initializer if len(tensor.dims) == 2]
    assert [tensor.data_type for tensor in matrices] == [TensorProto.INT8]


@pytest.mark.parametrize(("size", "expected"), [(0, False), (2**30, False), (2**31 - 2**24 + 1, True), (2**33, True)])
def test_weights_leave_the_graph_before_protobuf_ends(size, expected):
    assert quantize.needs_external_data(size) is expected


def test_weights_beside_a_graph_count_and_stay_beside_its_int8_form(tmp_path, feeds, monkeypatch):
    source, target = write_graph(tmp_path / "g.onnx"), tmp_path / "g.int8.onnx"
    whole = source.stat().st_size
    onnx.save(onnx.load(source), source, save_as_external_data=True, location="g.onnx_data", size_threshold=100)
    assert source.stat().st_size < 2000
    assert quantize.graph_bytes(source) == pytest.approx(whole, rel=0.05)
    monkeypatch.setattr(quantize, "needs_external_data", lambda n_bytes: n_bytes > 1000)
    assert quantize.quantize_until(source, target, feeds, lambda graph: True) == []
    assert quantize.external_data(target).exists()
    assert quantize.graph_bytes(target) < 0.4 * whole
    assert ort.InferenceSession(str(target)).run(["y"], {"x": feeds["x"]})[0].shape == (32, WIDTH)
