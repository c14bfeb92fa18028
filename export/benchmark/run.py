"""One benchmark: measured here, measured on a board over ssh, or projected for a board that is not there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from export.benchmark.arm64_tools import require_emulation
from export.benchmark.basis import Basis, Section
from export.benchmark.devices import Device, board
from export.benchmark.errors import BenchmarkError, OutsideCalibrationError
from export.benchmark.job import BenchmarkJob, BenchmarkReport, bundle_dict
from export.errors import ExportError

if TYPE_CHECKING:
    from export.benchmark.arm64_root import Arm64Root
    from export.benchmark.emulate import Emulation
    from export.benchmark.projected.project import Projection

GOLDEN: Final = "golden.npz"
SUITE: Final = "bookworm"
"""Debian 12, the release that most boards in the field run."""
_MODEL_FILE: Final = "/proc/device-tree/model"
# The projection's calibration counted instructions under this core; counts of another core would not fit it.
_COUNTED_ON: Final = "pi4"


def run_benchmark(job: BenchmarkJob) -> BenchmarkReport:
    """Run a benchmark; what cannot be known is listed as refused, never filled in.

    Raises
    ------
    BenchmarkError
        If a program is missing, the emulator or the board fails, or the outputs there are not those of the bundle.
    """
    if job.ssh is not None:
        _check_ssh(job.ssh)
    if _needs_emulation(job):
        require_emulation()
    float_files, refused = _float_files(job)
    evidence: dict[str, Any] = {}
    if job.ssh is not None:
        sections = [_over_ssh(job)]
    elif job.board is None or not _needs_emulation(job):
        sections = [_here(job)]
    else:
        sections, evidence, more = _without_board(job, job.board, float_files)
        refused += more
    if job.peers:
        sections.append(_peers(job, float_files))
    return BenchmarkReport(
        title=_title(job), device=job.device, bundle=bundle_dict(job), sections=tuple(sections), refused=tuple(refused),
        evidence=evidence,
    )  # fmt: skip


def board_here() -> str | None:
    """Return the name of the board that this process runs on, None elsewhere."""
    from export.benchmark.devices import BOARDS

    try:
        model = Path(_MODEL_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return next((name for name, device in BOARDS.items() if model.startswith(device.model_prefix)), None)


def _title(job: BenchmarkJob) -> str:
    where = "this host" if job.board is None else job.board.title
    return f"{job.manifest.id} {job.manifest.version} on {where}"


def _here(job: BenchmarkJob) -> Section:
    from export.benchmark.measured.host import measure_host
    from export.benchmark.measured.measure_process import Plan

    models = [path for path in (job.model("tflite"), job.model("onnx")) if path is not None and _runs_here(path)]
    if not models:
        raise BenchmarkError(
            "found no runtime for the bundle's models, expected ai-edge-litert or onnxruntime",
            advice="pip install 'lsemvae[edge]'",
        )
    return measure_host(models, inputs=job.bundle / GOLDEN, plan=Plan(runs=job.runs), progress=job.progress)


def _runs_here(path: Path) -> bool:
    package = {".tflite": "ai_edge_litert", ".onnx": "onnxruntime"}[path.suffix]
    return importlib.util.find_spec(package) is not None


def _needs_emulation(job: BenchmarkJob) -> bool:
    return job.ssh is None and job.board is not None and board_here() != job.board.name


def _check_ssh(target: str) -> None:
    """Refuse a target before anything slow begins."""
    from export.benchmark.measured.ssh import check_target

    check_target(target)


def _over_ssh(job: BenchmarkJob) -> Section:
    from export.benchmark.measured.measure_process import Plan
    from export.benchmark.measured.ssh import measure_board

    assert job.ssh is not None
    plan = Plan(runs=job.runs, warm_up_s=10.0)
    return measure_board(job.ssh, job.bundle, device=job.board, python=job.python, plan=plan, progress=job.progress)


def _without_board(
    job: BenchmarkJob, device: Device, float_files: dict[str, Path]
) -> tuple[list[Section], dict[str, Any], list[str]]:
    """Count under the emulator, then project: two tables, because the bases differ."""
    from export.benchmark.arm64_root import ensure_root
    from export.benchmark.emulate import emulate

    model = job.model("tflite")
    if model is None:
        raise BenchmarkError(
            "found no model.tflite in the bundle, expected one: the projection is calibrated on LiteRT"
        )
    root = ensure_root(SUITE, progress=job.progress)
    ecg = _golden_ecg(job)
    onnx = job.model("onnx")
    asked = [("LiteRT INT8", model, "litert", device)]
    asked += [("ONNX Runtime INT8", onnx, "onnx", device)] if onnx is not None else []
    asked += [("LiteRT fp32", float_files["tflite"], "litert", device)] if "tflite" in float_files else []
    runs = {}
    for name, path, runtime, where in asked:
        job.progress(f"emulating {name} on a {where.qemu_cpu}")
        runs[name] = emulate(path, runtime=runtime, device=where, root=root, ecg=ecg, progress=job.progress)
    emulated = Section(
        title=f"what one inference executes on a {device.qemu_cpu}",
        basis=Basis.EMULATED,
        rows=tuple((name, _shown(run)) for name, run in runs.items()),
        notes=_emulation_notes(runs),
    )
    counted = runs["LiteRT INT8"] if device.name == _COUNTED_ON else _counted(job, root, model, ecg)
    projected, evidence, refused = _projected(job, device, counted, runs.get("LiteRT fp32"))
    evidence["emulation"] = {name: run.to_dict() for name, run in runs.items()}
    return [emulated, *projected], evidence, refused


def _counted(job: BenchmarkJob, root: Arm64Root, model: Path, ecg: np.ndarray) -> Emulation:
    from export.benchmark.emulate import emulate

    pi4 = board(_COUNTED_ON)
    job.progress(f"counting on a {pi4.qemu_cpu}, whose counts the calibration holds")
    return emulate(model, runtime="litert", device=pi4, root=root, ecg=ecg, progress=job.progress)


def _projected(
    job: BenchmarkJob, device: Device, counted: Emulation, fp32: Emulation | None
) -> tuple[list[Section], dict[str, Any], list[str]]:
    from export.benchmark.projected.energy import estimate_energy
    from export.benchmark.projected.project import project

    refused, evidence, sections = [], {}, []
    try:
        found: Projection = project(
            device=device,
            a72_instructions=counted.instructions,
            precision="int8",
            runtime="litert",
            weights=counted.weights,
        )
        sections.append(found.section("LiteRT INT8"))
        evidence["projection"] = found.evidence()
        energy = estimate_energy(found, screening_every_min=job.screening_every_min)
        sections.append(
            Section(
                title="energy, an estimate",
                basis=Basis.PROJECTED,
                rows=(("LiteRT INT8", energy.figures),),
                notes=energy.notes,
            )
        )
        evidence["energy"] = energy.evidence()
    except OutsideCalibrationError as error:
        refused.append(f"LiteRT INT8: {error}")
    if fp32 is not None and device.name == _COUNTED_ON:
        try:
            other = project(
                device=device,
                a72_instructions=fp32.instructions,
                precision="fp32",
                runtime="litert",
                weights=fp32.weights,
            )
            sections.append(other.section("LiteRT fp32"))
        except OutsideCalibrationError as error:
            refused.append(f"LiteRT fp32: {error}")
    refused.append("ONNX Runtime INT8: no projection: no published figures of ONNX Runtime on this board calibrate it")
    refused.append("published 6-lead path: no projection: 123 M weights, far outside the calibration")
    return sections, evidence, refused


def _shown(run: Emulation) -> tuple[Any, ...]:
    """Return the whole count and the classes of opcodes that occurred or must not occur."""
    must_not = {f"opcodes_{name}" for name in ("dotprod", "i8mm", "lse", "crypto")}
    return tuple(f for f in run.figures() if f.value or f.name in must_not)


def _emulation_notes(runs: dict[str, Emulation]) -> tuple[str, ...]:
    first = next(iter(runs.values()))
    equal = [name for name, run in runs.items() if run.outputs_sha256 is not None]
    worst = max(run.float_difference for run in runs.values())
    return (
        f"{first.qemu} -cpu {first.cpu} with the board's cpuinfo, Debian {first.suite}, Python {first.python}, one thread",
        f"INT8 results equal to this host's, bit for bit: {', '.join(equal) or 'none checked'}; outputs behind the float head "
        f"differ by at most {worst:.2g}",
        "opcodes that the board cannot execute: none (a forbidden one is an error)",
        "no time is given: an emulator's time is not a latency",
    )


def _golden_ecg(job: BenchmarkJob) -> np.ndarray:
    with np.load(job.bundle / GOLDEN, allow_pickle=False) as golden:
        return np.asarray(golden["ecg"], dtype=np.float32)


def _float_files(job: BenchmarkJob) -> tuple[dict[str, Path], list[str]]:
    """The float forms of the bundle's student, converted where they are not there yet; else why they are not."""
    if job.run_dir is None:
        return {}, ["fp32 forms: this bundle's run folder was not named (--run)"]
    from export.steps import float_files

    try:
        return float_files(job.run_dir, progress=job.progress), []
    except ExportError as error:
        return {}, [f"fp32 forms: {error}"]


def _peers(job: BenchmarkJob, float_files: dict[str, Path]) -> Section:
    from export.benchmark.measured.peers import compare_peers, default_peers

    int8_tflite, int8_onnx = job.model("tflite"), job.model("onnx")
    peers = default_peers(
        int8_tflite=int8_tflite,
        int8_onnx=int8_onnx,
        fp32_tflite=float_files.get("tflite"),
        fp32_onnx=float_files.get("onnx"),
        student_run=job.run_dir,
    )
    return compare_peers(peers, inputs=job.bundle / GOLDEN, progress=job.progress)
