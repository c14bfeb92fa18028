"""Which tables a benchmark has, what it refuses to say, and how it looks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from export.benchmark import run as room
from export.benchmark.basis import Basis, Figure, Section
from export.benchmark.devices import board
from export.benchmark.errors import BenchmarkError, BoardError, EmulationError
from export.benchmark.job import NOT_COVERED, BenchmarkJob, BenchmarkReport
from export.benchmark.picture import draw
from export.benchmark.present import report_lines
from export.benchmark.run import board_here, run_benchmark
from lsemvae.screen.bundle import open_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, content in open_bundle(None).files.items():
        (folder / name).write_bytes(content)
    return folder


def job(bundle: Path, **more) -> BenchmarkJob:
    asked = {"device": "pi4", "peers": False, **more}
    return BenchmarkJob(bundle=bundle, manifest=open_bundle(None).manifest, **asked)


class FakeEmulation(SimpleNamespace):
    """What the emulator says, without one."""

    def figures(self) -> tuple[Figure, ...]:
        return (Figure(name="instructions", value=self.instructions, unit="instructions", basis=Basis.EMULATED),)

    def to_dict(self) -> dict:
        return {"basis": Basis.EMULATED.value, "instructions": self.instructions}


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """An emulator that counts 4.85 million instructions on every core, and a list of what it ran."""
    seen: list[tuple[str, str]] = []

    def emulate(model, *, runtime, device, root, ecg, progress):
        assert ecg.shape[1:] == (2, 2500)
        assert ecg.dtype == np.float32
        seen.append((Path(model).name, device.name))
        return FakeEmulation(
            instructions=4_850_000, weights=134_925, outputs_sha256="0" * 64, float_difference=2e-7, qemu="qemu-aarch64 7.2",
            cpu=device.qemu_cpu, suite="bookworm", python="3.11.2",
        )  # fmt: skip

    monkeypatch.setattr("tools.arm64.emulate.emulate", emulate)
    monkeypatch.setattr("tools.arm64.root.ensure_root", lambda suite, *, progress: suite)
    monkeypatch.setattr(room, "board_here", lambda: None)
    monkeypatch.setattr(room, "require_emulation", lambda: None)
    return seen


def test_without_a_board_counts_and_projection_stand_in_tables_of_their_own(bundle: Path, emulated) -> None:
    report = run_benchmark(job(bundle))
    assert [section.basis for section in report.sections] == [Basis.EMULATED, Basis.PROJECTED, Basis.PROJECTED]
    latency = report.figure("latency_1t_p50")
    assert latency is not None
    assert latency.basis is Basis.PROJECTED
    assert latency.low is not None
    assert latency.low < latency.value < 5.0
    assert emulated == [("model.tflite", "pi4"), ("model.onnx", "pi4")]
    assert not report.measured_on_device


def test_no_time_of_the_emulator_is_in_the_report(bundle: Path, emulated) -> None:
    report = run_benchmark(job(bundle))
    counted = [f for s in report.sections if s.basis is Basis.EMULATED for _, row in s.rows for f in row]
    assert counted
    assert {f.unit for f in counted} == {"instructions"}


@pytest.mark.parametrize("device", ["pi5", "zero2w"])
def test_other_boards_are_projected_from_counts_of_the_core_that_the_calibration_holds(
    bundle: Path, emulated, device: str
) -> None:
    report = run_benchmark(job(bundle, device=device))
    assert ("model.tflite", device) in emulated
    assert ("model.tflite", "pi4") in emulated
    latency = report.figure("latency_1t_p50")
    assert latency is not None
    assert latency.basis is Basis.PROJECTED


def test_what_has_no_projection_is_listed_with_its_reason(bundle: Path, emulated) -> None:
    report = run_benchmark(job(bundle))
    said = " ".join(report.refused)
    assert "ONNX Runtime INT8: no projection" in said
    assert "published 6-lead path: no projection" in said
    assert "fp32 forms: this bundle's run folder was not named" in said


def test_a_model_outside_the_calibration_gets_no_number(
    bundle: Path, emulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tiny(model, **_):
        return FakeEmulation(
            instructions=100_000,
            weights=10,
            outputs_sha256=None,
            float_difference=0.0,
            qemu="q",
            cpu="c",
            suite="s",
            python="3",
        )

    monkeypatch.setattr("tools.arm64.emulate.emulate", tiny)
    report = run_benchmark(job(bundle))
    assert report.figure("latency_1t_p50") is None
    assert any(line.startswith("LiteRT INT8: no projection") for line in report.refused)


def test_an_emulator_that_computes_something_else_stops_the_benchmark(
    bundle: Path, emulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_args, **_more):
        raise EmulationError("found other INT8 results")

    monkeypatch.setattr("tools.arm64.emulate.emulate", wrong)
    with pytest.raises(EmulationError):
        run_benchmark(job(bundle))


def test_on_the_board_itself_it_is_measured(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Section(title="here", basis=Basis.MEASURED, rows=())
    monkeypatch.setattr(room, "board_here", lambda: "pi4")
    monkeypatch.setattr(room, "_here", lambda _job: measured)
    report = run_benchmark(job(bundle))
    assert report.sections == (measured,)
    assert report.measured_on_device


@pytest.mark.parametrize(
    ("text", "name"),
    [("Raspberry Pi 4 Model B Rev 1.4\x00", "pi4"), ("Raspberry Pi Zero 2 W Rev 1.0", "zero2w"), ("Radxa", None)],
)
def test_a_board_is_known_by_its_device_tree(tmp_path: Path, monkeypatch, text: str, name: str | None) -> None:
    path = tmp_path / "model"
    path.write_text(text)
    monkeypatch.setattr(room, "_MODEL_FILE", str(path))
    assert board_here() == name
    path.unlink()
    assert board_here() is None


def test_an_unknown_device_and_no_runs_are_refused(bundle: Path) -> None:
    with pytest.raises(BenchmarkError, match="found the device 'pi6'"):
        job(bundle, device="pi6")
    with pytest.raises(BenchmarkError, match="found 0 runs"):
        job(bundle, runs=0)


# How it looks


def report_of(*sections: Section) -> BenchmarkReport:
    return BenchmarkReport(
        title="m 1.0.0 on a board", device="pi4", bundle={"label_statement": "What readers said."}, sections=sections,
        refused=("fp32: no projection",),
    )  # fmt: skip


def latency(value: float, basis: Basis, **more) -> Figure:
    return Figure(name="latency_1t_p50", value=value, unit="ms", basis=basis, **more)


MEASURED = Section(
    title="peers", basis=Basis.MEASURED, flags=("the board throttled",), notes=("a note",),
    rows=(("slow one", (latency(40.0, Basis.MEASURED),)), ("fast one", (latency(0.08, Basis.MEASURED),))),
)  # fmt: skip
PROJECTED = Section(
    title="projection", basis=Basis.PROJECTED, rows=(("model", (latency(2.6, Basis.PROJECTED, low=1.2, high=6.9),)),)
)


def test_each_table_says_its_basis_and_its_flags_before_its_figures() -> None:
    lines = report_lines(report_of(MEASURED, PROJECTED))
    text = "\n".join(lines)
    head, flag, first = (text.index(word) for word in ("basis: MEASURED", "FLAGGED: the board throttled", "40 ms"))
    assert head < flag < first < text.index("basis: PROJECTED") < text.index("2.6 ms (range 1.2 - 6.9)")
    assert max(map(len, lines)) <= 118


def test_what_is_not_given_not_covered_and_what_the_labels_are_stand_at_the_end() -> None:
    text = " ".join(" ".join(report_lines(report_of(MEASURED))).split())
    assert "fp32: no projection" in text
    assert all(sentence in text for sentence in NOT_COVERED)
    assert text.endswith("What readers said.")


def test_the_report_is_json(bundle: Path, emulated) -> None:
    said = json.loads(json.dumps(run_benchmark(job(bundle)).to_dict(), allow_nan=False))
    assert said["schema"] == "lsemvae-benchmark/1"
    assert all(
        figure["basis"] == section["basis"]
        for section in said["sections"]
        for row in section["rows"]
        for figure in row["figures"]
    )
    assert said["bundle"]["models"]["tflite"]["bytes"] == (bundle / "model.tflite").stat().st_size


def test_the_picture_has_a_panel_for_each_basis_and_is_a_png(tmp_path: Path) -> None:
    out = draw(report_of(MEASURED, PROJECTED), tmp_path / "p.png")
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_report_without_latency_has_no_picture(tmp_path: Path) -> None:
    empty = replace(MEASURED, rows=())
    with pytest.raises(BenchmarkError, match="found no latency"):
        draw(report_of(empty), tmp_path / "p.png")
    assert not (tmp_path / "p.png").exists()


def test_every_board_has_a_title_that_names_its_core() -> None:
    assert "Cortex-A72" in board("pi4").title


def test_a_target_that_is_no_host_is_refused_before_anything_slow(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_float_files", lambda _job: pytest.fail("began to convert"))
    with pytest.raises(BoardError, match="expected user@host"):
        run_benchmark(job(bundle, ssh="-oProxyCommand=sh"))


def test_a_range_stands_below_its_figure() -> None:
    fast = latency(400.0, Basis.MEASURED, low=300.0, high=500.0)
    section = Section(title="t", basis=Basis.MEASURED, rows=(("a", (fast,)), ("b", (latency(1.0, Basis.MEASURED),))))
    lines = report_lines(report_of(section))
    at = next(k for k, line in enumerate(lines) if "400 ms" in line)
    assert "300 - 500" in lines[at + 1]
