"""Counts are kept by graph: what changes the work changes the key, what a model has learned does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export.benchmark.basis import Basis
from export.benchmark.devices import BOARDS
from export.benchmark.errors import BenchmarkError, UncountedGraphError
from export.benchmark.projected import counts
from export.benchmark.projected.counts import COUNTS_FILE, MUST_NOT_RUN, counted, read_graph, recorded
from export.convert import tflite_file
from lsemvae.model.student_sizes import SIZES
from lsemvae.screen.bundle import SHIPPED_BUNDLE

ROOT = Path(__file__).resolve().parents[2]
TFLITE, ONNX = (SHIPPED_BUNDLE.joinpath(f"model.{suffix}").read_bytes() for suffix in ("tflite", "onnx"))
PACKAGED = {
    "shipped INT8": (TFLITE, "litert"),
    "shipped ONNX INT8": (ONNX, "onnx"),
    **{path.parent.name: (path.read_bytes(), "litert") for path in ROOT.glob("docs/evidence/cv/*/model.tflite")},
}


def key(content: bytes, runtime: str = "litert") -> str:
    return read_graph(content, runtime=runtime).key


# ---- what is in the file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKAGED)
def test_the_graph_of_every_packaged_model_is_counted_on_every_board(name: str) -> None:
    content, runtime = PACKAGED[name]
    entry = counted(read_graph(content, runtime=runtime))
    assert list(entry.boards) == list(BOARDS)
    assert len({count.record["cpu"] for count in entry.boards.values()}) == len(BOARDS)
    assert all(count.record["device"] == name for name, count in entry.boards.items())


def test_the_float_form_of_the_shipped_student_is_counted_too() -> None:
    entry = counted(read_graph(TFLITE, runtime="litert"))
    float_form = recorded()[entry.float_form]
    assert "float form" in float_form.what
    assert float_form.boards["pi4"].record["opcodes"].get("neon_int_mac", 0) == 0


@pytest.mark.parametrize("size", SIZES)
def test_a_student_of_every_size_is_counted(size: str) -> None:
    """Size m is the shipped graph: what was counted of its own file stands there."""
    words = "of lsemvae-limb" if size == "m" else f"student of size {size} with random weights"
    found = {entry.boards["pi4"].record["runtime"] for entry in recorded().values() if words in entry.what}
    assert found == ({"litert", "onnx"} if size == "m" else {"litert"})


def test_larger_students_take_more_instructions() -> None:
    taken = {
        size: entry.boards["pi4"].instructions
        for size in SIZES
        for entry in recorded().values()
        if entry.float_form is not None
        and ("of lsemvae-limb" in entry.what if size == "m" else f"size {size} with" in entry.what)
    }
    assert list(taken) == list(SIZES)
    assert list(taken.values()) == sorted(taken.values())


def test_every_entry_says_when_how_and_with_what_it_was_made() -> None:
    for entry in recorded().values():
        assert entry.command.startswith("python -m tools.arm64.count")
        assert len(entry.date) == len("2026-12-01")
        for count in entry.boards.values():
            record = count.record
            assert record["qemu"].startswith("qemu-aarch64 ")
            assert record["versions"] == record["host_versions"]
            assert record["forbidden"] == {}
            assert sum(record["opcodes"].values()) == count.instructions
            assert record["int8_results_equal_to_host"] is (True if record["int8_results_sha256"] else None)


def test_a_float_form_is_in_the_file_itself() -> None:
    assert {entry.float_form for entry in recorded().values()} - {None} <= set(recorded())


def test_figures_of_a_count_are_counts_and_show_what_must_not_run() -> None:
    figures = counted(read_graph(TFLITE, runtime="litert")).boards["pi4"].figures()
    assert {figure.basis for figure in figures} == {Basis.EMULATED}
    assert {figure.unit for figure in figures} == {"instructions"}
    values = {figure.name: figure.value for figure in figures}
    assert [values[f"opcodes_{name}"] for name in MUST_NOT_RUN] == [0, 0, 0, 0]
    assert values["instructions"] == sum(value for name, value in values.items() if name != "instructions")


def test_counts_of_another_schema_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "counts.json"
    path.write_text(json.dumps({"schema": "lsemvae-counts/9", "graphs": {}}))
    monkeypatch.setattr(counts, "COUNTS_FILE", path)
    with pytest.raises(BenchmarkError, match="found counts of schema 'lsemvae-counts/9'"):
        recorded.__wrapped__()


# ---- what the key is of ----------------------------------------------------------------------------------------------


def tflite_with(change: Any) -> bytes:
    model = tflite_file.parse(TFLITE)
    change(model, model.subgraphs[0])
    return tflite_file.pack(model)


def convolution(model: Any, graph: Any) -> Any:
    """The last convolution: all its operands are INT8."""
    return [o for o in graph.operators if tflite_file.operator_name(model, o)[0] == "CONV_2D"][-1]


def other_weights(model: Any, graph: Any) -> None:
    """Every constant of more than 16 numbers, and every bias and scale, is another one."""
    draw = np.random.default_rng(7)
    for tensor in graph.tensors:
        data = model.buffers[tensor.buffer].data
        kind = tflite_file.TENSOR_TYPES[tensor.type]
        if data is not None and len(data) and np.prod(tensor.shape) > 16:
            fresh = draw.integers(-9, 9, np.prod(tensor.shape)).astype(kind.lower())
            model.buffers[tensor.buffer].data = fresh.view(np.uint8)
        if tensor.quantization is not None and tensor.quantization.scale is not None:
            tensor.quantization.scale = np.asarray(tensor.quantization.scale) * np.float32(1.5)


def other_names_and_places(model: Any, graph: Any) -> None:
    """Tensors in the opposite order of the file, under other names."""
    last = len(graph.tensors) - 1
    graph.tensors = graph.tensors[::-1]
    for number, tensor in enumerate(graph.tensors):
        tensor.name = f"t{number}".encode()
    graph.inputs, graph.outputs = (last - np.asarray(side) for side in (graph.inputs, graph.outputs))
    for op in graph.operators:
        op.inputs = [last - int(index) if index >= 0 else -1 for index in op.inputs]
        op.outputs = [last - int(index) for index in op.outputs]
    model.signatureDefs = None


def other_shape(model: Any, graph: Any) -> None:
    weights = graph.tensors[int(convolution(model, graph).inputs[1])]
    weights.shape = np.asarray(weights.shape) * np.asarray([1, 1, 2, 1])


def other_type(model: Any, graph: Any) -> None:
    graph.tensors[int(convolution(model, graph).outputs[0])].type = tflite_file.schema.TensorType.INT16


def other_granularity(model: Any, graph: Any) -> None:
    quantization = graph.tensors[int(convolution(model, graph).inputs[1])].quantization
    quantization.scale, quantization.zeroPoint = quantization.scale[:1], quantization.zeroPoint[:1]


def other_option(model: Any, graph: Any) -> None:
    convolution(model, graph).builtinOptions.strideW += 1


def other_operator(model: Any, graph: Any) -> None:
    operators = {tflite_file.operator_name(model, o)[0]: o for o in graph.operators}
    operators["MAXIMUM"].opcodeIndex = operators["MINIMUM"].opcodeIndex


def one_operator_less(model: Any, graph: Any) -> None:
    graph.operators = graph.operators[:-1]


def other_padding(model: Any, graph: Any) -> None:
    pad = next(o for o in graph.operators if tflite_file.operator_name(model, o)[0] == "PAD")
    buffer = model.buffers[graph.tensors[int(pad.inputs[1])].buffer]
    buffer.data = (np.frombuffer(bytes(buffer.data), np.int32) + 1).view(np.uint8)


@pytest.mark.parametrize("change", [other_weights, other_names_and_places], ids=lambda change: change.__name__)
def test_what_a_model_has_learned_and_how_it_is_written_down_do_not_change_the_key(change: Any) -> None:
    changed = tflite_with(change)
    assert changed != TFLITE
    assert key(changed) == key(TFLITE)


@pytest.mark.parametrize(
    "change",
    [other_shape, other_type, other_granularity, other_option, other_operator, one_operator_less, other_padding],
    ids=lambda change: change.__name__,
)
def test_what_changes_the_work_changes_the_key(change: Any) -> None:
    assert key(tflite_with(change)) != key(TFLITE)


def onnx_with(change: Any) -> bytes:
    model = onnx.load_from_string(ONNX)
    change(model.graph)
    return bytes(model.SerializeToString())


def other_onnx_weights(graph: Any) -> None:
    for entry in graph.initializer:
        if entry.data_type != onnx.TensorProto.INT64:
            array = onnx.numpy_helper.to_array(entry)
            entry.CopyFrom(onnx.numpy_helper.from_array(np.ones_like(array), entry.name))


def other_onnx_names(graph: Any) -> None:
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [name and f"renamed {name}" for name in side]
    for entry in (*graph.initializer, *graph.input, *graph.output):
        entry.name = f"renamed {entry.name}"


def other_onnx_shape(graph: Any) -> None:
    entry = next(e for e in graph.initializer if e.data_type == onnx.TensorProto.INT8 and len(e.dims) == 3)
    array = onnx.numpy_helper.to_array(entry)
    entry.CopyFrom(onnx.numpy_helper.from_array(np.concatenate([array, array]), entry.name))


def other_onnx_type(graph: Any) -> None:
    entry = next(e for e in graph.initializer if e.data_type == onnx.TensorProto.INT8 and len(e.dims) == 3)
    entry.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(entry).view(np.uint8), entry.name))


def other_onnx_operator(graph: Any) -> None:
    next(node for node in graph.node if node.op_type == "Relu").op_type = "Sigmoid"


def other_onnx_attribute(graph: Any) -> None:
    node = next(node for node in graph.node if node.op_type == "Conv")
    next(entry for entry in node.attribute if entry.name == "strides").ints[0] += 1


@pytest.mark.parametrize("change", [other_onnx_weights, other_onnx_names], ids=lambda change: change.__name__)
def test_weights_and_names_of_an_onnx_file_do_not_change_its_key(change: Any) -> None:
    assert key(onnx_with(change), "onnx") == key(ONNX, "onnx")


@pytest.mark.parametrize(
    "change",
    [other_onnx_shape, other_onnx_type, other_onnx_operator, other_onnx_attribute],
    ids=lambda change: change.__name__,
)
def test_what_changes_the_work_of_an_onnx_file_changes_its_key(change: Any) -> None:
    assert key(onnx_with(change), "onnx") != key(ONNX, "onnx")


def test_the_parts_of_a_graph_that_a_projection_asks_for() -> None:
    graph = read_graph(TFLITE, runtime="litert")
    assert (graph.title, graph.precision, len(graph.operators)) == ("LiteRT INT8", "int8", 20)
    assert read_graph(ONNX, runtime="onnx").title == "ONNX Runtime INT8"
    with pytest.raises(BenchmarkError, match="found the runtime 'torch', expected one of litert, onnx"):
        read_graph(TFLITE, runtime="torch")


# ---- what was never counted ------------------------------------------------------------------------------------------


@pytest.fixture
def unknown() -> counts.Graph:
    return read_graph(tflite_with(other_option), runtime="litert")


def test_an_uncounted_graph_where_it_can_be_counted_names_the_command(
    unknown: counts.Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(UncountedGraphError, match=r"found a LiteRT INT8 graph.*never counted, expected") as raised:
        counted(unknown)
    assert raised.value.code == "E_BENCHMARK_COUNT"
    assert "python -m tools.arm64.count BUNDLE --write" in raised.value.advice
    assert "--ssh user@pi" in raised.value.advice


def test_an_uncounted_graph_elsewhere_says_what_is_missing_and_offers_the_board(
    unknown: counts.Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "mmdebstrap" else f"/usr/bin/{name}")
    monkeypatch.setattr(counts, "_COUNTER", Path("/nowhere/tools/arm64/count.py"))
    with pytest.raises(UncountedGraphError) as raised:
        counted(unknown)
    assert "missing here: mmdebstrap, tools/arm64 of a checkout" in raised.value.advice
    assert "tools.arm64.count" not in raised.value.advice
    assert "lsemvae benchmark --ssh user@pi" in raised.value.advice


def test_the_file_goes_into_the_wheel() -> None:
    assert COUNTS_FILE.is_relative_to(ROOT / "export")
