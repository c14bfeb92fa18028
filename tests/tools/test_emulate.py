"""The shipped model under emulated boards, and every way in which an emulation must fail."""

from __future__ import annotations

import copy
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from export.benchmark.basis import Basis
from export.benchmark.devices import board
from export.benchmark.errors import BenchmarkError
from export.benchmark.projected.counts import Count, read_graph
from export.convert import tflite_file
from tools.arm64 import border, emulate, guest
from tools.arm64.opcodes import WindowCount
from tools.arm64.programs import EmulationError
from tools.arm64.qemu import run_python
from tools.arm64.root import ensure_root

PI4 = board("pi4")
FLAT = np.zeros((1, 2, 2500), np.float32)


@pytest.fixture
def bundle(repo_root) -> Path:
    return repo_root / "edge_app" / "bundle"


@pytest.fixture
def ecg(bundle) -> np.ndarray:
    with np.load(bundle / "golden.npz", allow_pickle=False) as stored:
        return stored["ecg"]


def float_part(content: bytes) -> bytes:
    """The shipped model's head alone: from the dequantized summary to the logits, all float."""
    model = tflite_file.parse(content)
    graph = model.subgraphs[0]
    logits = int(next(e.tensorIndex for e in model.signatureDefs[0].outputs if e.name == b"logits"))
    head = next(op for op in graph.operators if logits in op.outputs)
    graph.operators, graph.inputs, graph.outputs = [head], np.asarray(head.inputs[:1]), np.asarray(head.outputs)
    model.signatureDefs = None
    return tflite_file.pack(model)


def int8_tensors(content: bytes, ecg: np.ndarray) -> list[np.ndarray]:
    """The inputs of the DEQUANTIZE operators, read out of the whole model."""
    from ai_edge_litert.interpreter import Interpreter

    graph = tflite_file.parse(content)
    ends = [
        int(op.inputs[0])
        for op in graph.subgraphs[0].operators
        if tflite_file.operator_name(graph, op)[0] == "DEQUANTIZE"
    ]
    interpreter = Interpreter(model_content=content, num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], ecg)
    interpreter.invoke()
    return [interpreter.get_tensor(index) for index in sorted(ends)]


def test_the_border_model_of_a_tflite_file_gives_the_integers_inside_it(bundle, ecg):
    content = (bundle / "model.tflite").read_bytes()
    probe = border.border_model(content, runtime="litert")
    found = guest.litert(probe)(ecg[:1])
    inside = int8_tensors(content, ecg[:1])
    assert inside
    for array, expected in zip(found.values(), inside, strict=True):
        assert array.dtype == np.int8
        assert np.ptp(array) > 20  # a summary that says something
        np.testing.assert_array_equal(array, expected)


def test_the_border_model_of_an_onnx_file_gives_what_its_head_reads(bundle, ecg):
    import onnx
    import onnxruntime

    content = (bundle / "model.onnx").read_bytes()
    found = guest.onnx(border.border_model(content, runtime="onnx"))(ecg[:1])
    assert {array.dtype for array in found.values()} <= {np.dtype(np.int8), np.dtype(np.uint8)}
    whole = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
    head = onnx.utils.Extractor(whole).extract_model(list(found), ["logits", "uncertainty"])
    answers = onnxruntime.InferenceSession(head.SerializeToString()).run(["logits", "uncertainty"], found)
    for answer, expected in zip(answers, guest.onnx(content)(ecg[:1]).values(), strict=True):
        np.testing.assert_allclose(answer, expected, atol=1e-6)


def int8_region(content: bytes, *, with_quantize: bool) -> tuple[bytes, tuple[int, ...]]:
    """The operators from QUANTIZE (or from behind it: integers in) to the border, and the shape of what they take."""
    model = tflite_file.parse(border.border_model(content, runtime="litert"))
    graph = model.subgraphs[0]
    quantize = next(op for op in graph.operators if tflite_file.operator_name(model, op)[0] == "QUANTIZE")
    graph.operators = graph.operators[graph.operators.index(quantize) + (not with_quantize) :]
    graph.inputs = np.asarray(quantize.inputs if with_quantize else quantize.outputs)
    return tflite_file.pack(model), tuple(int(n) for n in graph.tensors[int(graph.inputs[0])].shape)


def test_a_model_with_int8_input_is_fed_the_integers_that_its_own_quantization_gives(bundle):
    content = (bundle / "model.tflite").read_bytes()
    quantizing, shape = int8_region(content, with_quantize=True)
    integers, same_shape = int8_region(content, with_quantize=False)
    assert shape == same_shape
    values = np.random.default_rng(0).normal(0, 0.5, shape).astype(np.float32)
    expected, found = guest.litert(quantizing)(values)["0"], guest.litert(integers)(values)["0"]
    assert found.dtype == np.int8
    assert np.ptp(found) > 20
    np.testing.assert_array_equal(found, expected)


def test_a_float_model_has_no_border(bundle):
    assert border.border_model(float_part((bundle / "model.tflite").read_bytes()), runtime="litert") is None


def test_both_files_of_the_bundle_hold_the_same_number_of_weights(bundle):
    content = (bundle / "model.tflite").read_bytes()
    model = tflite_file.parse(content)
    graph = model.subgraphs[0]
    kernels = {
        int(op.inputs[1]): int(np.prod(graph.tensors[int(op.inputs[1])].shape))
        for op in graph.operators
        if tflite_file.operator_name(model, op)[0] in ("CONV_2D", "FULLY_CONNECTED")
    }
    assert read_graph(content, runtime="litert").weights == sum(kernels.values())
    assert read_graph((bundle / "model.onnx").read_bytes(), runtime="onnx").weights == sum(kernels.values())


def test_an_unknown_runtime_is_refused():
    with pytest.raises(BenchmarkError, match="found the runtime 'torch', expected one of litert, onnx"):
        border.border_model(b"", runtime="torch")


# --- failures, without an emulator ------------------------------------------------------------------------------

GOOD = {
    "out/logits": np.array([[0.5, -2.0]], np.float32), "out/uncertainty": np.array([[0.1]], np.float32),
    "border/0": np.array([[3, -7]], np.int8),
}  # fmt: skip
PLAIN = WindowCount(MappingProxyType({0x0E628020: 900, 0xD503201F: 100}), 1000, 0)
SAID = {"versions": {"numpy": "1", "ai-edge-litert": "2"}, "python": "3.11.2", "core_part": "0xd08"}


@pytest.fixture
def staged(monkeypatch, bundle):
    """Run `emulate` on the shipped model with both runs' answers given."""

    def run(window=PLAIN, device=PI4, recordings=FLAT, **changes):
        emulated = {**copy.deepcopy(GOOD), **changes}
        monkeypatch.setattr(emulate, "_on_host", lambda *_: (SAID, GOOD))
        monkeypatch.setattr(emulate, "_emulated", lambda *_: (SAID, emulated, window))
        monkeypatch.setattr(emulate, "find_qemu", lambda *_: type("Q", (), {"title": "qemu-aarch64 7.2"})())
        root = type("R", (), {"suite": "bookworm"})()
        return emulate.emulate(bundle / "model.tflite", runtime="litert", device=device, root=root, ecg=recordings)

    return run


def test_equal_answers_pass_and_nothing_of_it_is_a_time(staged):
    seen = staged()
    assert seen.instructions == 1000
    assert (seen.float_difference, seen.forbidden) == (0.0, {})
    assert seen.to_dict()["int8_results_equal_to_host"] is True
    figures = Count(seen.to_dict()).figures()
    assert {figure.basis for figure in figures} == {Basis.EMULATED}
    assert {figure.unit for figure in figures} == {"instructions"}
    assert not [key for key in seen.to_dict() if key.endswith(("_ms", "_s"))]


@pytest.mark.promise(123)
def test_one_int8_step_of_difference_fails(staged):
    with pytest.raises(EmulationError, match=r"found 1 of 2 INT8 results.*up to 1 steps.*expected the same bytes"):
        staged(**{"border/0": np.array([[3, -8]], np.int8)})


def test_a_last_bit_of_the_float_head_passes_and_is_reported(staged):
    seen = staged(**{"out/logits": np.nextafter(GOOD["out/logits"], np.float32(9))})
    assert 0 < seen.float_difference <= border.HEAD_TOLERANCE


def test_a_float_output_beyond_its_tolerance_fails(staged):
    with pytest.raises(EmulationError, match="expected at most"):
        staged(**{"out/logits": GOOD["out/logits"] + np.float32(1e-4)})


def test_nan_under_the_emulator_fails(staged):
    with pytest.raises(EmulationError, match="not finite"):
        staged(**{"out/uncertainty": np.array([[np.nan]], np.float32)})


@pytest.mark.promise(123)
def test_an_instruction_that_the_board_lacks_fails(staged):
    aes = WindowCount(MappingProxyType({0x4E284820: 2, 0xD503201F: 1}), 3, 0)
    with pytest.raises(EmulationError, match="found 2 crypto instructions, expected none"):
        staged(window=aes)
    assert staged(window=aes, device=board("pi5")).forbidden == {}


def test_a_second_thread_inside_the_window_fails(staged):
    with pytest.raises(EmulationError, match="other threads executed 5 instructions"):
        staged(window=WindowCount(PLAIN.words, PLAIN.instructions, 5))


@pytest.mark.parametrize(
    "recordings",
    [FLAT[0], FLAT[:0], FLAT.astype(np.float64), np.full_like(FLAT, np.nan)],
    ids=["no batch", "no recording", "float64", "nan"],
)
def test_recordings_of_another_form_are_refused(staged, recordings):
    with pytest.raises(BenchmarkError, match=r"expected finite float32 \[n, lead, time\]"):
        staged(recordings=recordings)


# --- under the emulator -----------------------------------------------------------------------------------------

needs_qemu = pytest.mark.usefixtures("needs_qemu")


@needs_qemu
@pytest.mark.needs_qemu
def test_a_model_that_does_not_run_here_is_told_with_the_runtimes_words(bundle):
    root = type("R", (), {"suite": "bookworm"})()
    with pytest.raises(BenchmarkError, match=r"cannot be run on this machine.*Its last words"):
        emulate.emulate(bundle / "model.tflite", runtime="litert", device=PI4, root=root, ecg=FLAT[:, :, :100])


@pytest.mark.slow
@needs_qemu
@pytest.mark.needs_qemu
@pytest.mark.parametrize(
    ("program", "timeout_s", "words"),
    [
        ("import os; os.abort()", 60.0, "died of signal 6"),
        (
            "import sys; print('so long', file=sys.stderr, flush=True)\nwhile True: pass",
            4.0,
            r"did not end within 4 s.*so long",
        ),
    ],
    ids=["crash", "endless"],
)
def test_an_emulator_that_dies_or_does_not_end_is_told_with_its_last_words(program, timeout_s, words):
    with pytest.raises(EmulationError, match=words):
        run_python(["-c", program], root=ensure_root(), device=PI4, shown={}, timeout_s=timeout_s)


@needs_qemu
@pytest.mark.needs_qemu
def test_the_guest_sees_nothing_of_this_machines_packages():
    program = "import sys, os; print(sys.path); import pytest"
    done = run_python(["-c", program], root=ensure_root(), device=PI4, shown={}, timeout_s=60)
    assert "dist-packages" not in done.stdout
    assert "No module named 'pytest'" in done.stderr


@pytest.mark.promise(123)
@needs_qemu
@pytest.mark.needs_qemu
@pytest.mark.slow
def test_the_shipped_model_on_an_emulated_pi_4_says_what_it_says_here_and_counts_the_same_twice(bundle, ecg):
    first, second = (
        emulate.emulate(bundle / "model.tflite", runtime="litert", device=PI4, root=ensure_root(), ecg=part)
        for part in (ecg, ecg)
    )
    assert first.instructions == second.instructions
    assert dict(first.opcodes.mnemonics) == dict(second.opcodes.mnemonics)
    assert first.outputs_sha256 == second.outputs_sha256 is not None
    assert first.recordings == len(ecg)
    assert first.float_difference <= 2e-6
    assert first.versions == first.host_versions
    # Half of the work of an INT8 network on an A72, which has no dot product, is SMULL and SMLAL; eight products each.
    assert first.opcodes.share("neon_int_mac") > 0.25
    assert first.opcodes.counts["dotprod"] == 0
    assert 1e6 < first.instructions < 1e8


@needs_qemu
@pytest.mark.needs_qemu
@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "file", "runtime", "suite"),
    [("pi5", "model.tflite", "litert", "trixie"), ("zero2w", "model.onnx", "onnx", "bookworm")],
)
def test_the_other_boards_give_the_same_integers(bundle, ecg, device, file, runtime, suite):
    seen = emulate.emulate(bundle / file, runtime=runtime, device=board(device), root=ensure_root(suite), ecg=ecg[:2])
    assert seen.outputs_sha256 is not None
    assert seen.forbidden == {}
    assert (seen.opcodes.counts["dotprod"] > 0) == (device == "pi5")  # a Cortex-A76 has them and XNNPACK takes them
    here = getattr(guest, runtime)((bundle / file).read_bytes())
    for record, logits in zip(ecg, seen.logits, strict=False):
        np.testing.assert_allclose(logits, here(record[None])["logits"][0], atol=1e-5)


@needs_qemu
@pytest.mark.needs_qemu
@pytest.mark.slow
def test_a_model_that_the_emulated_runtime_refuses_is_told_with_its_words(bundle, monkeypatch):
    monkeypatch.setattr(emulate, "_on_host", lambda *_: (SAID, GOOD))
    with pytest.raises(EmulationError, match=r"the emulated run ended with status 1, expected 0\..*Cannot set tensor"):
        emulate.emulate(bundle / "model.tflite", runtime="litert", device=PI4, root=ensure_root(), ecg=FLAT[:, :, :100])
