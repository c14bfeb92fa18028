"""The same files on an x86 processor without VNNI, emulated: what is computed there, never how fast."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.gates.outputs import Outputs
from lsemvae.screen.bundle import Bundle
from tests.conftest import skip_for
from tests.runtimes import matrix
from tests.runtimes.asking import Answers
from tests.runtimes.matrix import TOLERANCES, Difference, Kinship, difference
from tests.runtimes.processor_runner import LARGEST_UINT8
from tests.runtimes.processor_runner import __file__ as runner
from tests.runtimes.recordings import Questions

pytestmark = pytest.mark.slow  # the whole file: what its tests share takes long to make

EMULATORS = ("qemu-x86_64", "qemu-x86_64-static")
# AVX2 and no VNNI, as in Intel's desktop processors before 2021 and AMD's up to Zen 3.
PROCESSOR = "Haswell"
SHIPPED = "model"
# The golden signals and a few more: emulation is slow.
N_RECORDINGS = 12
LARGEST_INT8, LARGEST_INT16 = 127, 32767
WIDTH = 64

Arrays = Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def emulated_run(bundle: Bundle, asked: Questions, tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """Answers of the emulated processor; empty where this machine cannot emulate it."""
    emulator = next(filter(None, map(shutil.which, EMULATORS)), None)
    if emulator is None or platform.machine() != "x86_64":
        return {}
    folder = tmp_path_factory.mktemp("processor")
    files = {name: bundle.files[name] for name in ("model.tflite", "model.onnx")} | {"sums.onnx": largest_sums()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    np.save(folder / "ecg.npy", asked.ecg[:N_RECORDINGS])
    # The bare interpreter with this environment's packages: qemu does not look for pyvenv.cfg beside a link.
    command = [emulator, "-cpu", PROCESSOR, str(Path(sys.executable).resolve()), runner, str(folder)]
    environment = os.environ | {"PYTHONPATH": sysconfig.get_path("purelib"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(folder / "answers.npz", allow_pickle=False) as archive:
        return dict(archive)


def largest_sums() -> bytes:
    """Return an ONNX model that multiplies a row of bytes with columns of the largest signed bytes."""
    weights = numpy_helper.from_array(np.full((WIDTH, 8), LARGEST_INT8, np.int8), "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["bytes", "weights"], ["sums"])],
        "sums",
        [helper.make_tensor_value_info("bytes", TensorProto.UINT8, [1, WIDTH])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, [1, 8])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.fixture
def emulated(emulated_run: Arrays, request: pytest.FixtureRequest) -> Arrays:
    if not emulated_run:
        skip_for("the program qemu-x86_64 on an x86-64 machine (Debian package: qemu-user-static)")
    return emulated_run


def apart(found: np.ndarray, answers: Answers, runtime: str, bundle: Bundle) -> Difference:
    """How far the emulated processor is from this one."""
    here = answers.outputs[runtime][SHIPPED]
    here = Outputs(here.logits[:N_RECORDINGS], here.uncertainty[:N_RECORDINGS])
    return difference(Outputs(found[:, :-1], found[:, -1:]), here, manifest=bundle.manifest)


@pytest.fixture
def allowed(bundle: Bundle) -> Difference:
    return TOLERANCES[str(bundle.manifest.provenance["recipe"])][Kinship.SAME_KERNELS]


@pytest.mark.slow
@pytest.mark.promise(129)
def test_litert_computes_the_same_without_vnni(
    emulated: Arrays, python_answers: Answers, bundle: Bundle, allowed: Difference
) -> None:
    assert apart(emulated["litert"], python_answers, matrix.REFERENCE, bundle).beyond(allowed) == {}


@pytest.mark.promise(129)
def test_onnxruntime_computes_the_same_without_vnni_where_it_is_told_to_be_precise(
    emulated: Arrays, python_answers: Answers, bundle: Bundle, allowed: Difference
) -> None:
    assert apart(emulated["onnx"], python_answers, matrix.ORT, bundle).beyond(allowed) == {}


def test_onnxruntime_adds_in_16_bits_without_vnni_where_it_is_not(emulated: Arrays) -> None:
    """AVX2 adds two products of bytes in 16 bits, with saturation: the reason for the setting."""
    assert set(emulated["sums_precise"].ravel()) == {WIDTH * LARGEST_UINT8 * LARGEST_INT8}
    assert set(emulated["sums"].ravel()) == {WIDTH // 2 * LARGEST_INT16}
