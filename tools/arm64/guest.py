"""Run a model on recordings and mark the window of one inference. The same file runs here and under the emulator.

It stands alone (numpy and one model runtime), since the emulated interpreter sees nothing else of this project:

    python guest.py FOLDER

FOLDER holds `job.json` (`runtime`, `warm_ups`), `model`, optionally `probe` (a model that ends at the INT8 region's
border) and `ecg.npy` (float32 `[n, lead, time]` mV). Into the existing `out.npz` go `out/NAME` and `border/NUMBER`, each
`[n, ...]`; on the output stream one line of JSON says which versions ran on which core.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

# These three are the numbers that plugin/window_count.c looks for.
MARK, BEGIN, END = 0x6C736D76, 1, 2
Arrays = dict[str, np.ndarray]


def mark(which: int) -> None:
    """Tell the counting plugin, by a system call that every kernel refuses."""
    try:
        os.getpriority(MARK, which)
    except OSError:
        return
    raise RuntimeError("getpriority accepted a number that it should refuse")


def litert(model: bytes) -> Callable[[np.ndarray], Arrays]:
    """Return a runner by LiteRT, one thread, the kernels that it chooses by itself (XNNPACK)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]
    outputs = interpreter.get_output_details()
    if interpreter.get_signature_list():
        named = interpreter.get_signature_runner().get_output_details()
        places = {name: int(detail["index"]) for name, detail in named.items()}
    else:
        places = {str(number): int(detail["index"]) for number, detail in enumerate(outputs)}

    def run(ecg: np.ndarray) -> Arrays:
        interpreter.set_tensor(entry["index"], ecg)
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in places.items()}

    if entry["dtype"] == np.float32:
        return run
    scale, zero = entry["quantization"]
    limits = np.iinfo(entry["dtype"])

    def run_quantized(ecg: np.ndarray) -> Arrays:
        return run(np.clip(np.round(ecg / scale) + zero, limits.min, limits.max).astype(entry["dtype"]))

    return run_quantized


def onnx(model: bytes) -> Callable[[np.ndarray], Arrays]:
    """Return a runner by ONNX Runtime, one thread, set up as in the clinic."""
    import runpy  # here, because what a process has imported moves counts by about a hundred instructions

    import onnxruntime

    # The clinic's own set-up: its file lies beside this one in a job's folder, and in the package elsewhere.
    path = Path(__file__).with_name("onnx_options.py")
    path = path if path.is_file() else path.parents[2] / "lsemvae" / "screen" / "runtime" / path.name
    options = runpy.run_path(str(path))["session_options"](onnxruntime, 1)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]

    def run(ecg: np.ndarray) -> Arrays:
        return dict(zip(names, session.run(names, {entry: ecg}), strict=True))

    return run


def count_one(run: Callable[[np.ndarray], Arrays], ecg: np.ndarray, warm_ups: int) -> None:
    """Run `ecg` `[1, lead, time]` once between the marks; caches and lazy set-up are settled before."""
    for _ in range(warm_ups):
        run(ecg)
    gc.collect()
    gc.disable()  # a collection inside the window would be counted
    mark(BEGIN)
    run(ecg)
    mark(END)
    gc.enable()


def run_all(run: Callable[[np.ndarray], Arrays], ecg: np.ndarray) -> Arrays:
    """Return the outputs for `ecg` `[n, lead, time]`, one recording at a time, joined along the first axis."""
    seen = [run(record[None]) for record in ecg]
    return {name: np.concatenate([np.atleast_1d(one[name]) for one in seen]) for name in seen[0]}


def core_part() -> str:
    """Return the part number of the core as `/proc/cpuinfo` names it, empty where it names none (x86)."""
    found = re.search(r"CPU part\s*:\s*(\S+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return found[1] if found else ""


def main(folder: Path) -> dict[str, Any]:
    """Do the job of a folder and return what to report."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    runner = {"litert": litert, "onnx": onnx}[job["runtime"]]
    ecg = np.load(folder / "ecg.npy", allow_pickle=False)
    run = runner((folder / "model").read_bytes())
    count_one(run, ecg[:1], job["warm_ups"])
    arrays = {f"out/{name}": array for name, array in run_all(run, ecg).items()}
    if (folder / "probe").is_file():
        border = run_all(runner((folder / "probe").read_bytes()), ecg)
        arrays |= {f"border/{number}": array for number, array in enumerate(border.values())}
    with (folder / "out.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    package = {"litert": "ai-edge-litert", "onnx": "onnxruntime"}[job["runtime"]]
    versions = {name: metadata.version(name) for name in ("numpy", package)}
    return {"versions": versions, "python": sys.version.split()[0], "core_part": core_part()}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))  # noqa: T201 - its answer to the process that started it
