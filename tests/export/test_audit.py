"""The audit's rules, on models made to break them one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportAuditError
from export.gates.audit import (
    BORDER,
    CUSTOM,
    FLOAT,
    HYBRID,
    INT8,
    IoSpec,
    OpRow,
    io_problems,
    op_problems,
    require_clean,
)
from export.gates.audit_onnx import audit_onnx

GOOD = [
    OpRow("QUANTIZE", "other", BORDER, (1,)),
    OpRow("CONV_2D", "encoder", INT8, (2,)),
    OpRow("FULLY_CONNECTED", "encoder", INT8, (3,)),
    OpRow("DEQUANTIZE", "encoder", BORDER, (4,)),
    OpRow("MINIMUM", "encoder", FLOAT, (5,)),
    OpRow("EXP", "head", FLOAT, ()),
]
SHAPE = {"n_leads": 2, "n_samples": 64, "n_labels": 3}


def test_int8_encoder_with_a_float_tail_and_a_float_head_is_clean() -> None:
    assert op_problems(GOOD, int8=True) == []


@pytest.mark.promise(83)
@pytest.mark.parametrize(
    ("position", "row", "words"),
    [
        (1, OpRow("CONV_2D", "encoder", FLOAT, (2,)), "CONV_2D is float in the INT8 region"),
        (2, OpRow("FULLY_CONNECTED", "encoder", FLOAT, (3,)), "FULLY_CONNECTED is float in the INT8 region"),
        (2, OpRow("FULLY_CONNECTED", "encoder", HYBRID, (3,)), "dynamic range"),
        (5, OpRow("EXP", "head", INT8, ()), "EXP must not run in INT8"),
        (5, OpRow("DIV", "head", INT8, ()), "DIV must not run in INT8"),
        (5, OpRow("ADD", "head", INT8, ()), "ADD is INT8 outside the encoder"),
        (5, OpRow("CUSTOM", "head", CUSTOM, ()), "not a standard operator"),
    ],
)
def test_each_forbidden_operator_is_named(position: int, row: OpRow, words: str) -> None:
    rows = [*GOOD[:position], row, *GOOD[position + 1 :]]
    assert any(words in problem for problem in op_problems(rows, int8=True))


@pytest.mark.promise(83)
def test_a_float_island_between_int8_operators_is_found_across_borders() -> None:
    rows = [
        OpRow("CONV_2D", "encoder", INT8, (1,)),
        OpRow("DEQUANTIZE", "encoder", BORDER, (2,)),
        OpRow("ADD", "encoder", FLOAT, (3,)),
        OpRow("QUANTIZE", "encoder", BORDER, (4,)),
        OpRow("FULLY_CONNECTED", "encoder", INT8, ()),
    ]
    assert op_problems(rows, int8=True) == ["encoder ADD is float between INT8 operators"]


def test_a_float_file_may_hold_nothing_quantized_and_an_int8_file_must() -> None:
    assert any("INT8 in a float model" in problem for problem in op_problems(GOOD, int8=False))
    floats = [OpRow("CONV_2D", "encoder", FLOAT, ())]
    assert op_problems(floats, int8=False) == []
    assert any("no convolution" in problem for problem in op_problems(floats, int8=True))


def test_interface_must_be_float_static_and_named() -> None:
    good = [IoSpec("ecg", "float32", (1, 2, 64))]
    outputs = [IoSpec("uncertainty", "float32", (1, 1)), IoSpec("logits", "float32", (1, 3))]
    assert io_problems(good, outputs, **SHAPE) == []
    for changed in (
        IoSpec("ecg", "int8", (1, 2, 64)),
        IoSpec("ecg", "float32", (-1, 2, 64)),
        IoSpec("x", "float32", (1, 2, 64)),
    ):
        assert len(io_problems([changed], outputs, **SHAPE)) == 1
    assert len(io_problems(good, outputs[:1], **SHAPE)) == 1


def onnx_model(*, batch: int | str = 1, quantized: str = "static", scale: float = 0.05, doubtful: str = "") -> bytes:
    """A tiny encoder (convolution, mean) and head (exp) as ONNX, quantized in the way that is asked for."""
    scales = [numpy_helper.from_array(np.float32(scale), "s"), numpy_helper.from_array(np.uint8(128), "z")]
    weight = numpy_helper.from_array(np.ones((3, 2, 5), np.int8), "w8")
    weight_q = [numpy_helper.from_array(np.float32(0.1), "ws"), numpy_helper.from_array(np.int8(0), "wz")]

    def node(op: str, name: str, inputs: list[str], output: str, **attributes) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [output], name=name, **attributes)

    def border(name: str, tensor: str) -> list[onnx.NodeProto]:
        return [
            node("QuantizeLinear", f"encoder/{name}_q", [tensor, "s", "z"], f"{tensor}_q"),
            node("DequantizeLinear", f"encoder/{name}_d", [f"{tensor}_q", "s", "z"], f"{tensor}_d"),
        ]

    static = quantized == "static"
    nodes = border("in", "ecg") if static else []
    nodes += [
        node("DequantizeLinear", "encoder/w_d", ["w8", "ws", "wz"], "w"),
        node("Conv", "encoder/Conv_0", ["ecg_d" if static else "ecg", "w"], "conv"),
        node("Relu", "encoder/Relu_1", ["conv"], "relu"),
    ]
    nodes += border("relu", "relu") if static else []
    nodes.append(
        node("ReduceMean", "encoder/Mean_2", ["relu_d" if static else "relu", "axes"], "logits_raw", keepdims=0)
    )
    nodes += border("mean", "logits_raw") if static else []
    raw = "logits_raw_d" if static else "logits_raw"
    nodes.append(node("Clip", "encoder/Clip_3", [raw, "low", "high"], "logits"))
    if doubtful:
        nodes += [node(doubtful, "head/Doubt_4", ["logits"], "doubt"), *border("doubt", "doubt")]
        nodes.append(node("ReduceMean", "head/Mean_5", ["doubt_d", "axes"], "uncertainty", keepdims=1))
    else:
        nodes += [node("Exp", "head/Exp_4", ["logits"], "e")]
        nodes.append(node("ReduceMean", "head/Mean_5", ["e", "axes"], "uncertainty", keepdims=1))
    graph = helper.make_graph(
        nodes,
        "student",
        [helper.make_tensor_value_info("ecg", TensorProto.FLOAT, [batch, 2, 64])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3]),
            helper.make_tensor_value_info("uncertainty", TensorProto.FLOAT, [batch, 1]),
        ],
        [
            *scales,
            weight,
            *weight_q,
            numpy_helper.from_array(np.array([-1]), "axes"),
            numpy_helper.from_array(np.float32(-6), "low"),
            numpy_helper.from_array(np.float32(6), "high"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    return model.SerializeToString()


def problems(data: bytes, *, int8: bool = True) -> str:
    return "; ".join(audit_onnx(data, int8=int8, **SHAPE).problems)


def test_static_qdq_model_is_clean_and_counted() -> None:
    report = require_clean(audit_onnx(onnx_model(), int8=True, **SHAPE))
    kinds = {(row.region, row.op): row.kind for row in report.ops}
    assert kinds["encoder", "Conv"] == kinds["encoder", "Relu"] == kinds["encoder", "ReduceMean"] == INT8
    assert kinds["encoder", "Clip"] == kinds["head", "Exp"] == kinds["head", "ReduceMean"] == FLOAT
    assert report.count(INT8) == 3


def test_weight_only_onnx_model_is_a_hybrid() -> None:
    assert "encoder Conv runs float activations on integer weights" in problems(onnx_model(quantized="weights"))


def test_a_convolution_with_float_weights_between_borders_is_not_int8() -> None:
    """Its activations are rounded to INT8, and it still multiplies in float."""
    model = onnx.load_from_string(onnx_model())
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    model.graph.initializer.append(numpy_helper.from_array(np.ones((3, 2, 5), np.float32), "float_weight"))
    conv.input[1] = "float_weight"
    assert "encoder Conv is float in the INT8 region" in problems(model.SerializeToString())


def test_dynamic_batch_is_refused() -> None:
    assert "ecg float32 [-1, 2, 64]" in problems(onnx_model(batch="batch"))


def test_scale_that_is_no_positive_number_is_refused() -> None:
    for scale in (0.0, float("nan"), -1.0):
        assert "scale that is not a positive number" in problems(onnx_model(scale=scale))


@pytest.mark.parametrize("op", ["Exp", "Reciprocal", "Sqrt"])
def test_quantized_exp_in_the_head_is_refused(op: str) -> None:
    model = onnx.load_from_string(onnx_model(doubtful=op))
    doubt = next(node for node in model.graph.node if node.name == "head/Doubt_4")
    doubt.input[0] = "logits_raw_d"
    assert f"head {op} must not run in INT8" in problems(model.SerializeToString())


def test_foreign_operator_domain_is_refused() -> None:
    model = onnx.load_from_string(onnx_model())
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    next(node for node in model.graph.node if node.name == "head/Exp_4").domain = "com.example"
    assert "com.example" in problems(model.SerializeToString())


def test_dynamic_quantization_by_onnxruntime_is_refused(tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    weight = numpy_helper.from_array(np.ones((64, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["ecg", "w"], ["logits"], name="encoder/MatMul_0")],
        "student",
        [helper.make_tensor_value_info("ecg", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [weight],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "f.onnx")
    quantize_dynamic(tmp_path / "f.onnx", tmp_path / "d.onnx", extra_options={"DefaultTensorType": 1})
    assert "dynamic range" in problems((tmp_path / "d.onnx").read_bytes())


def test_refusal_lists_every_problem_once() -> None:
    report = audit_onnx(onnx_model(batch="n", scale=0.0), int8=True, **SHAPE)
    with pytest.raises(ExportAuditError, match="scale that is not") as caught:
        require_clean(report)
    assert str(caught.value).count("ecg float32 [-1, 2, 64]") == 1
    assert caught.value.advice
