"""One benchmark: measured here, measured on a board over ssh, or projected for a board that is not there."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from export.benchmark.basis import Basis, BenchmarkSection
from export.benchmark.devices import BOARDS, Device
from export.benchmark.errors import BenchmarkError, OutsideCalibrationError
from export.benchmark.job import BenchmarkJob, BenchmarkReport, bundle_dict
from export.benchmark.measured.host import measure_host
from export.benchmark.measured.process import Plan
from export.benchmark.measured.ssh import BOARD_WARM_UP_S, measure_board
from export.errors import ExportError

if TYPE_CHECKING:
    from export.benchmark.projected.counts import Graph, GraphCount

GOLDEN: Final = "golden.npz"
_MODEL_FILE: Final = "/proc/device-tree/model"
# The projection's calibration counted instructions under this core; counts of another core would not fit it.
_COUNTED_ON: Final = "pi4"


def run_benchmark(job: BenchmarkJob) -> BenchmarkReport:
    """Run a benchmark; what cannot be known is listed as refused, never filled in.

    Raises
    ------
    BenchmarkError
        If the model's graph was never counted, the board fails, or the outputs there are not those of the bundle.
    """
    refused: list[str] = []
    evidence: dict[str, Any] = {}
    where = "this host" if job.board is None else job.board.title
    plan = Plan(runs=job.runs)
    if job.ssh is not None:
        plan = replace(plan, warm_up_s=BOARD_WARM_UP_S)
        seen = measure_board(job.ssh, job.bundle, device=job.board, python=job.python, plan=plan, progress=job.progress)
        sections, where = [seen], seen.title
    elif job.board is None or board_here() == job.board.name:
        packages = {"tflite": "ai_edge_litert", "onnx": "onnxruntime"}
        there = [target for target, package in packages.items() if importlib.util.find_spec(package) is not None]
        models = [path for target in there if (path := job.model(target)) is not None]
        if not models:
            raise BenchmarkError(
                "found no runtime for the bundle's models, expected ai-edge-litert or onnxruntime",
                advice="pip install 'lsemvae[edge]'",
            )
        inputs = job.bundle / GOLDEN
        sections = [measure_host(models, inputs=inputs, plan=plan, device=job.device, progress=job.progress)]
    else:
        sections, evidence, refused = _without_board(job, job.board)
    if job.peers:
        section, more = _peers(job)
        sections.append(section)
        refused += more
    return BenchmarkReport(
        title=f"{job.manifest.id} {job.manifest.version} on {where}",
        device=job.device,
        bundle=bundle_dict(job),
        sections=tuple(sections),
        refused=tuple(refused),
        evidence=evidence,
    )


def board_here() -> str | None:
    """Return the name of the board that this process runs on, None elsewhere."""
    try:
        model = Path(_MODEL_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return next((name for name, device in BOARDS.items() if model.startswith(device.model_prefix)), None)


def _without_board(job: BenchmarkJob, device: Device) -> tuple[list[BenchmarkSection], dict[str, Any], list[str]]:
    """Look up what was counted, then project: two tables, because the bases differ."""
    from export.benchmark.projected.counts import counted, read_graph, recorded

    model = job.model("tflite")
    if model is None:
        raise BenchmarkError(
            "found no model.tflite in the bundle, expected one: the projection is calibrated on LiteRT"
        )
    refused = []
    content = model.read_bytes()
    graph = read_graph(content, runtime="litert")
    entry = counted(graph)
    entries = {graph.title: entry}
    if (onnx := job.model("onnx")) is not None:
        if importlib.util.find_spec("onnx") is None:
            refused.append("ONNX Runtime: no count: the package onnx, which reads the graph, is not installed")
        elif (other := read_graph(onnx.read_bytes(), runtime="onnx")).key in recorded():
            entries[other.title] = recorded()[other.key]
        else:
            refused.append(f"{other.title}: no count: its graph was never counted")
    float_form = None if entry.float_form is None else recorded()[entry.float_form]
    if float_form is not None:
        entries["LiteRT fp32"] = float_form
    counts = {name: found.boards[device.name] for name, found in entries.items()}
    first = counts[graph.title].record
    differences = [count.record["float_difference_to_host"] for count in counts.values()]
    exact = [name for name, count in counts.items() if count.record["int8_results_equal_to_host"]]
    own = first["model_sha256"] == hashlib.sha256(content).hexdigest()
    emulated = BenchmarkSection(
        title=f"what one inference executes on a {device.qemu_cpu}",
        basis=Basis.EMULATED,
        rows=tuple((name, count.figures()) for name, count in counts.items()),
        notes=(
            f"{first['qemu']} -cpu {first['cpu']} with the board's cpuinfo, Debian {first['suite']}, Python {first['python']}, "
            f"one thread; counted on {entry.date}, nothing was emulated now",
            f"counted was {entry.what}: "
            + ("this very file" if own else "another file of the same graph, and weights do not change a count"),
            f"INT8 results equal to those of the counting machine, bit for bit: {', '.join(exact) or 'none checked'}; outputs "
            f"behind the float head differed by at most {max(differences):.2g}",
            "opcodes that the board cannot execute: none (a forbidden one is an error of the counting)",
            "no time is given: an emulator's time is not a latency",
        ),
    )
    sections, evidence, reasons = _projected(job, device, graph, entry)
    if float_form is not None and device.name == _COUNTED_ON:
        single, _, more = _projected(job, device, replace(graph, precision="fp32"), float_form, with_energy=False)
        sections, reasons = sections + single, reasons + more
    reasons.append("ONNX Runtime INT8: no projection: no published figures of ONNX Runtime on this board calibrate it")
    reasons.append("published 6-lead path: no projection: 123 M weights, far outside the calibration")
    evidence["emulation"] = {name: dict(count.record) for name, count in counts.items()}
    return [emulated, *sections], evidence, refused + reasons


def _projected(
    job: BenchmarkJob, device: Device, graph: Graph, entry: GraphCount, *, with_energy: bool = True
) -> tuple[list[BenchmarkSection], dict[str, Any], list[str]]:
    """Project one form of the model; outside the calibration it is refused with its reason."""
    from export.benchmark.projected.energy import estimate_energy
    from export.benchmark.projected.project import project

    sections, evidence = [], {}
    try:
        found = project(
            device=device,
            a72_instructions=entry.boards[_COUNTED_ON].instructions,
            precision=graph.precision,
            runtime="litert",
            weights=graph.weights,
            operators=graph.operators,
        )
        sections.append(found.section(graph.title))
        evidence["projection"] = found.evidence()
        if with_energy:
            energy = estimate_energy(found, screening_every_min=job.screening_every_min)
            rows = ((graph.title, energy.figures),)
            sections.append(
                BenchmarkSection(title="energy, an estimate", basis=Basis.PROJECTED, rows=rows, notes=energy.notes)
            )
            evidence["energy"] = energy.evidence()
    except OutsideCalibrationError as error:
        return sections, evidence, [f"{graph.title}: {error}"]
    return sections, evidence, []


def _peers(job: BenchmarkJob) -> tuple[BenchmarkSection, list[str]]:
    """Measure the peers on this host; with them the student's float forms, converted where they are not there yet."""
    from export.benchmark.measured.peers import compare_peers, default_peers

    float_files: dict[str, Path] = {}
    refused = ["fp32 forms: this bundle's run folder was not named (--run)"]
    if job.run_dir is not None:
        from export.steps import float_files as converted

        try:
            float_files, refused = converted(job.run_dir, progress=job.progress), []
        except ExportError as error:
            refused = [f"fp32 forms: {error}"]
    peers = default_peers(
        int8_tflite=job.model("tflite"),
        int8_onnx=job.model("onnx"),
        fp32_tflite=float_files.get("tflite"),
        fp32_onnx=float_files.get("onnx"),
        student_run=job.run_dir,
    )
    return compare_peers(peers, inputs=job.bundle / GOLDEN, progress=job.progress), refused
