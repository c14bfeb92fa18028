"""A model under an emulated board core: how many instructions one inference takes, of which kinds, and whether it
says what it says on this machine. Nothing here is a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from export.benchmark.basis import Basis
from export.benchmark.devices import Device
from export.benchmark.errors import BenchmarkError
from export.benchmark.projected.counts import read_graph
from lsemvae.screen.runtime import onnx_options
from tools.arm64 import guest
from tools.arm64.border import (
    FLOAT_TOLERANCE,
    HEAD_TOLERANCE,
    border_model,
    float_difference_of,
    output_of,
    same_integers,
)
from tools.arm64.opcodes import Histogram, WindowCount, forbidden_on, histogram, read_window
from tools.arm64.programs import EmulationError, last_words
from tools.arm64.qemu import find_qemu, run_python
from tools.arm64.root import Arm64Root

Progress = Callable[[str], None]
# Runs before the counted one: the first sets up kernels and packs weights, the second settles caches.
WARM_UPS: Final = 2
# An emulated run takes seconds; this allows for a machine that does much else.
TIMEOUT_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulation:
    """What was seen under the emulator.

    Attributes
    ----------
    instructions
        A64 instructions of one inference with its call from Python: one thread, after two warm-ups.
    logits, uncertainty
        `[n, K]` and `[n, 1]` as the emulated model gave them.
    outputs_sha256
        Hash of the INT8 results that feed the float head, over all recordings; equal here and under the emulator. None
        for a model without INT8 region.
    float_difference
        Largest difference of a float output to this machine's, relative to `max(1, largest output)`.
    forbidden
        Classes that the board cannot execute, and how often they ran; empty, or the emulation has failed.
    versions
        Distribution name to version under the emulator. `host_versions` are those here.
    weights
        Numbers in the model's kernels.
    """

    device: Device
    runtime: str
    model_sha256: str
    instructions: int
    opcodes: Histogram
    logits: np.ndarray
    uncertainty: np.ndarray
    outputs_sha256: str | None
    float_difference: float
    tolerance: float
    recordings: int
    cpu: str
    qemu: str
    suite: str
    python: str
    versions: Mapping[str, str]
    host_versions: Mapping[str, str]
    weights: int

    @property
    def forbidden(self) -> dict[str, int]:
        """Classes that ran and that the board cannot execute."""
        return forbidden_on(self.device, self.opcodes)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the output arrays, for JSON."""
        return {
            "basis": Basis.EMULATED.value,
            "device": self.device.name,
            "cpu": self.cpu,
            "qemu": self.qemu,
            "suite": self.suite,
            "python": self.python,
            "runtime": self.runtime,
            "versions": dict(self.versions),
            "host_versions": dict(self.host_versions),
            "model_sha256": self.model_sha256,
            "weights": self.weights,
            "instructions": self.instructions,
            "opcodes": {name: count for name, count in self.opcodes.counts.items() if count},
            "mnemonics": dict(list(self.opcodes.mnemonics.items())[:20]),
            "forbidden": self.forbidden,
            "recordings": self.recordings,
            "int8_results_sha256": self.outputs_sha256,
            "int8_results_equal_to_host": None if self.outputs_sha256 is None else True,
            "float_difference_to_host": self.float_difference,
            "float_tolerance": self.tolerance,
        }


def emulate(
    model: Path | bytes,
    *,
    runtime: str,
    device: Device,
    root: Arm64Root,
    ecg: np.ndarray,
    progress: Progress = lambda _: None,
    timeout_s: float = TIMEOUT_S,
) -> Emulation:
    """Run a model here and under the emulator, count one inference, and check that both say the same.

    Parameters
    ----------
    runtime
        `litert` (a `.tflite` file) or `onnx`.
    ecg
        float32 `[n, lead, time]` mV, through the front-end. The first recording is the counted one; all are compared.

    Raises
    ------
    EmulationError
        The emulator failed or did not end; the INT8 results differ in any byte, or a float output by more than its
        tolerance; an instruction ran that the board does not have; or another thread ran inside the window.
    """
    content = model.read_bytes() if isinstance(model, Path) else model
    probe = border_model(content, runtime=runtime)
    if ecg.ndim != 3 or not len(ecg) or ecg.dtype != np.float32 or not np.isfinite(ecg).all():
        raise BenchmarkError(
            f"found recordings {ecg.dtype} {list(ecg.shape)}, expected finite float32 [n, lead, time] in mV with n >= 1"
        )
    qemu = find_qemu(progress)
    with (
        tempfile.TemporaryDirectory(prefix="lsemvae-job-") as here,
        tempfile.TemporaryDirectory(prefix="lsemvae-job-") as there,
    ):
        _write_job(Path(here), content, probe, runtime, ecg)
        _write_job(Path(there), content, probe, runtime, ecg)
        progress("Running the model on this machine")
        host, host_arrays = _on_host(Path(here), timeout_s)
        progress(f"Running the model under {qemu.title} -cpu {device.qemu_cpu}, {root.suite}")
        said, arrays, window = _emulated(Path(there), root, device, timeout_s)
    counted = histogram(window.words)
    _check_window(window, counted, device)
    int8_sha256 = same_integers(host_arrays, arrays) if probe is not None else None
    tolerance = FLOAT_TOLERANCE if probe is None else HEAD_TOLERANCE
    return Emulation(
        device=device,
        runtime=runtime,
        model_sha256=hashlib.sha256(content).hexdigest(),
        instructions=window.instructions,
        opcodes=counted,
        logits=output_of(arrays, "logits"),
        uncertainty=output_of(arrays, "uncertainty"),
        outputs_sha256=int8_sha256,
        float_difference=float_difference_of(host_arrays, arrays, tolerance=tolerance),
        tolerance=tolerance,
        recordings=len(ecg),
        cpu=device.qemu_cpu,
        qemu=qemu.title,
        suite=root.suite,
        python=said["python"],
        versions=MappingProxyType(said["versions"]),
        host_versions=MappingProxyType(host["versions"]),
        weights=read_graph(content, runtime=runtime).weights,
    )


def _write_job(folder: Path, content: bytes, probe: bytes | None, runtime: str, ecg: np.ndarray) -> None:
    for program in (guest.__file__, onnx_options.__file__):
        (folder / Path(program).name).write_bytes(Path(program).read_bytes())
    (folder / "job.json").write_text(json.dumps({"runtime": runtime, "warm_ups": WARM_UPS}), encoding="utf-8")
    (folder / "model").write_bytes(content)
    if probe is not None:
        (folder / "probe").write_bytes(probe)
    np.save(folder / "ecg.npy", ecg, allow_pickle=False)
    (folder / "out.npz").touch()  # the emulator shows the folder's files, but makes new ones elsewhere


def _on_host(folder: Path, timeout_s: float) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, str(folder / "guest.py"), str(folder)],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"the model did not end within {timeout_s:g} s on this machine") from error
    if done.returncode:
        raise BenchmarkError(
            f"the model cannot be run on this machine (status {done.returncode}). {last_words(done.stderr)}"
        )
    return _answer(done.stdout, folder)


def _emulated(
    folder: Path, root: Arm64Root, device: Device, timeout_s: float
) -> tuple[dict[str, Any], dict[str, np.ndarray], WindowCount]:
    counts = folder / "window.txt"
    done = run_python(
        ["/job/guest.py", "/job"],
        root=root,
        device=device,
        shown={"job": folder},
        count_into=counts,
        timeout_s=timeout_s,
    )
    if done.returncode:
        raise EmulationError(
            f"the emulated run ended with status {done.returncode}, expected 0. {last_words(done.stderr)}"
        )
    said, arrays = _answer(done.stdout, folder)
    if said["core_part"] != device.midr_part:
        raise EmulationError(
            f"the emulated process saw the core {said['core_part'] or '(none)'}, expected {device.midr_part} of {device.name}: "
            "the runtime would choose its kernels for another one"
        )
    return said, arrays, read_window(counts)


def _answer(said: str, folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(folder / "out.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return json.loads(said.splitlines()[-1]), arrays


def _check_window(window: WindowCount, counted: Histogram, device: Device) -> None:
    if window.foreign:
        raise EmulationError(
            f"other threads executed {window.foreign:,} instructions inside the window, expected one thread only"
        )
    forbidden = forbidden_on(device, counted)
    if forbidden:
        raise EmulationError(
            f"found {', '.join(f'{count:,} {name}' for name, count in forbidden.items())} instructions, expected none: "
            f"a {device.title} would end the process at the first"
        )
