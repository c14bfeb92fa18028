"""Which tables a benchmark has, what it refuses to say, and how it looks."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from export.benchmark import run as room
from export.benchmark.basis import ANOTHER_MACHINE, Basis, BenchmarkSection, Figure
from export.benchmark.devices import board
from export.benchmark.errors import BenchmarkError, BoardError, UncountedGraphError
from export.benchmark.job import NOT_COVERED, BenchmarkJob, BenchmarkReport
from export.benchmark.picture import draw
from export.benchmark.present import report_lines
from export.benchmark.projected import counts
from export.benchmark.projected.counts import Count
from export.benchmark.run import board_here, run_benchmark
from lsemvae.screen.bundle import SHIPPED_BUNDLE, open_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, content in open_bundle(None).files.items():
        (folder / name).write_bytes(content)
    return folder


def job(bundle: Path, **more) -> BenchmarkJob:
    asked = {"device": "pi4", **more}
    return BenchmarkJob(bundle=bundle, manifest=open_bundle(None).manifest, **asked)


@pytest.fixture(autouse=True)
def no_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "board_here", lambda: None)


def count_instead(monkeypatch: pytest.MonkeyPatch, instructions: int) -> None:
    """Let the recorded counts of the shipped INT8 graph be another number."""
    known = dict(counts.recorded())
    key = counts.read_graph(SHIPPED_BUNDLE.joinpath("model.tflite").read_bytes(), runtime="litert").key
    boards = {name: Count({**count.record, "instructions": instructions}) for name, count in known[key].boards.items()}
    known[key] = replace(known[key], boards=boards)
    monkeypatch.setattr(counts, "recorded", lambda: known)


def test_without_a_board_counts_and_projection_stand_in_tables_of_their_own(bundle: Path) -> None:
    report = run_benchmark(job(bundle))
    assert [section.basis for section in report.sections] == [Basis.EMULATED, Basis.PROJECTED, Basis.PROJECTED]
    assert [name for name, _ in report.sections[0].rows] == ["LiteRT INT8", "ONNX Runtime INT8", "LiteRT fp32"]
    latency = report.figure("latency_1t_p50")
    assert latency is not None
    assert latency.basis is Basis.PROJECTED
    assert latency.low is not None
    assert latency.low < latency.value < 5.0
    assert not report.measured_on_device


def test_the_shipped_bundle_is_projected_as_it_always_was(bundle: Path) -> None:
    """Before counts were recorded they were made at each call: the figures are the same."""
    found = {
        name: run_benchmark(job(bundle)).figure(name) for name in ("instructions", "latency_1t_p50", "latency_4t_p50")
    }
    assert found["instructions"].value == pytest.approx(4_281_289, rel=1e-4)
    assert found["latency_1t_p50"].text() == "2.35 ms (range 1.05 - 6.56)"
    assert found["latency_4t_p50"].text() == "1.52 ms (range 0.96 - 2.09)"


def test_no_program_is_started_for_a_projection(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    assert run_benchmark(job(bundle)).figure("latency_1t_p50") is not None


@pytest.mark.promise(121)
def test_no_time_of_the_emulator_is_in_the_report(bundle: Path) -> None:
    report = run_benchmark(job(bundle))
    counted = [f for s in report.sections if s.basis is Basis.EMULATED for _, row in s.rows for f in row]
    assert counted
    assert {f.unit for f in counted} == {"instructions"}


@pytest.mark.parametrize("device", ["pi5", "zero2w"])
def test_other_boards_are_projected_from_counts_of_the_core_that_the_calibration_holds(
    bundle: Path, device: str
) -> None:
    on_pi4, report = run_benchmark(job(bundle)), run_benchmark(job(bundle, device=device))
    own, a72 = (found.figure("instructions").value for found in (report, on_pi4))
    assert own != a72  # each core has kernels of its own
    assert report.evidence["projection"]["a72_instructions"] == a72
    latency = report.figure("latency_1t_p50")
    assert latency is not None
    assert latency.basis is Basis.PROJECTED


def test_what_has_no_projection_is_listed_with_its_reason(bundle: Path) -> None:
    said = " ".join(run_benchmark(job(bundle)).refused)
    assert "ONNX Runtime INT8: no projection" in said
    assert "published 6-lead path: no projection" in said
    assert "LiteRT fp32: no projection: found 5.27 million instructions" in said


def test_a_model_outside_the_calibration_gets_no_number(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count_instead(monkeypatch, 100_000)
    report = run_benchmark(job(bundle))
    assert report.figure("latency_1t_p50") is None
    assert any(line.startswith("LiteRT INT8: no projection") for line in report.refused)
    assert "no latency. LiteRT INT8: no projection" in report_lines(report)[0]


def test_a_graph_that_was_never_counted_stops_the_benchmark(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "recorded", dict)
    with pytest.raises(
        UncountedGraphError, match=r"found a LiteRT INT8 graph of 20 operators.*never counted"
    ) as raised:
        run_benchmark(job(bundle))
    assert "lsemvae benchmark --ssh user@pi" in raised.value.advice


def test_an_onnx_form_that_was_never_counted_is_left_out_and_said(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = counts.recorded()
    key = counts.read_graph((bundle / "model.onnx").read_bytes(), runtime="onnx").key
    monkeypatch.setattr(counts, "recorded", lambda: {k: entry for k, entry in known.items() if k != key})
    report = run_benchmark(job(bundle))
    assert [name for name, _ in report.sections[0].rows] == ["LiteRT INT8", "LiteRT fp32"]
    assert "ONNX Runtime INT8: no count: its graph was never counted" in report.refused


def test_the_table_says_when_and_of_what_the_count_was_made(bundle: Path) -> None:
    said = " ".join(run_benchmark(job(bundle)).sections[0].notes)
    assert "qemu-aarch64" in said
    assert "counted on 2" in said
    assert "this very file" in said


def test_peers_are_measured_only_where_they_were_asked_for(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_peers", lambda _job: (MEASURED, ["fp32 forms: none"]))
    assert MEASURED not in run_benchmark(job(bundle)).sections
    report = run_benchmark(job(bundle, peers=True))
    assert report.sections[-1] is MEASURED
    assert "fp32 forms: none" in report.refused
    assert not report.measured_on_device


def test_peers_without_the_students_run_folder_say_so(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.benchmark.measured.peers.compare_peers", lambda *_, **__: MEASURED)
    assert (
        "fp32 forms: this bundle's run folder was not named (--run)" in run_benchmark(job(bundle, peers=True)).refused
    )


def test_on_the_board_itself_it_is_measured(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = BenchmarkSection(title="here", basis=Basis.MEASURED, rows=())
    monkeypatch.setattr(room, "board_here", lambda: "pi4")
    monkeypatch.setattr(room, "measure_host", lambda _models, **asked: replace(measured, measured_on=asked["device"]))
    report = run_benchmark(job(bundle))
    assert [section.title for section in report.sections] == ["here"]
    assert report.measured_on_device


@pytest.mark.parametrize(("machine", "counts_as_measured"), [("pi4", True), (ANOTHER_MACHINE, False)])
def test_a_machine_over_ssh_that_is_not_the_device_is_measured_but_not_as_the_device(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, machine: str, counts_as_measured: bool
) -> None:
    rows = (("model.tflite", (latency(0.09, Basis.MEASURED),)),)
    seen = BenchmarkSection(title="some machine, over ssh", basis=Basis.MEASURED, rows=rows, measured_on=machine)
    monkeypatch.setattr(room, "measure_board", lambda *_, **__: seen)
    report = run_benchmark(job(bundle, ssh="user@x86box"))
    assert report.measured_on_device is counts_as_measured
    assert report.title.endswith("on some machine, over ssh")
    answer = " ".join(" ".join(report_lines(report)[:3]).split())
    assert ("measured on another machine than the pi4 that was asked for" in answer) is not counts_as_measured


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


def report_of(*sections: BenchmarkSection) -> BenchmarkReport:
    return BenchmarkReport(
        title="m 1.0.0 on a board", device="pi4", bundle={"label_statement": "What readers said."}, sections=sections,
        refused=("fp32: no projection",),
    )  # fmt: skip


def latency(value: float, basis: Basis, **more) -> Figure:
    return Figure(name="latency_1t_p50", value=value, unit="ms", basis=basis, **more)


MEASURED = BenchmarkSection(
    title="peers", basis=Basis.MEASURED, flags=("the board throttled",), notes=("a note",),
    rows=(("slow one", (latency(40.0, Basis.MEASURED),)), ("fast one", (latency(0.08, Basis.MEASURED),))),
)  # fmt: skip
PROJECTED = BenchmarkSection(
    title="projection", basis=Basis.PROJECTED, rows=(("model", (latency(2.6, Basis.PROJECTED, low=1.2, high=6.9),)),)
)


def test_each_table_says_its_basis_and_its_flags_before_its_figures() -> None:
    lines = report_lines(report_of(MEASURED, PROJECTED))
    text = "\n".join(lines).partition("DETAILS")[2]
    head, flag, first = (text.index(word) for word in ("basis: MEASURED", "FLAGGED: the board throttled", "40 ms"))
    assert head < flag < first < text.index("basis: PROJECTED") < text.index("2.6 ms (range 1.2 - 6.9)")
    assert max(map(len, lines)) <= 118


def test_the_answer_is_one_line_and_one_table_of_one_basis() -> None:
    lines = report_lines(report_of(MEASURED, PROJECTED))
    answer = lines[: lines.index("DETAILS")]
    assert answer[0] == "m 1.0.0 on a board: PROJECTED 2.6 ms (1.2 - 6.9) an inference, one thread; no board was there."
    assert "  one thread, median                      2.6 ms (1.2 - 6.9)" in answer
    assert "40 ms" not in "".join(answer)  # of another basis
    here = replace(MEASURED, measured_on="pi4")
    answer = "\n".join(report_lines(report_of(here, PROJECTED))).partition("DETAILS")[0]
    assert "MEASURED 40 ms" in answer
    assert "FLAGGED" in answer
    assert "2.6 ms" not in answer


def test_what_is_not_given_not_covered_and_what_the_labels_are_stand_at_the_end() -> None:
    text = " ".join(" ".join(report_lines(report_of(MEASURED))).split())
    assert "fp32: no projection" in text
    assert all(sentence in text for sentence in NOT_COVERED)
    assert text.endswith("What readers said.")


@pytest.mark.promise(121)
def test_the_report_is_json(bundle: Path) -> None:
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
    monkeypatch.setattr(room, "_peers", lambda _job: pytest.fail("began to convert"))
    with pytest.raises(BoardError, match="expected user@host"):
        run_benchmark(job(bundle, ssh="-oProxyCommand=sh", peers=True))


def test_a_range_stands_below_its_figure() -> None:
    fast = latency(400.0, Basis.MEASURED, low=300.0, high=500.0)
    section = BenchmarkSection(
        title="t", basis=Basis.MEASURED, rows=(("a", (fast,)), ("b", (latency(1.0, Basis.MEASURED),)))
    )
    lines = report_lines(report_of(section))
    at = next(k for k, line in enumerate(lines) if "400 ms" in line)
    assert "300 - 500" in lines[at + 1]
