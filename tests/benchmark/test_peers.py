"""Peers: timed in turns, ratios turn by turn, and nobody left out in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.benchmark.basis import BenchmarkSection, Figure
from export.benchmark.errors import BenchmarkError
from export.benchmark.measured import peers, torch_peer
from export.benchmark.measured.peers import REFERENCE, Peer, compare_peers, default_peers
from export.benchmark.measured.reference import PARAMETERS
from export.student_run.packaged import PACKAGED_RUN

BUNDLE = Path(__file__).resolve().parents[2] / "edge_app" / "bundle"
GOLDEN = BUNDLE / "golden.npz"
LITERT = "student, LiteRT INT8"


@pytest.fixture(autouse=True)
def one_process_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_ALONE", 1)


def row(section: BenchmarkSection, name: str) -> dict[str, Figure]:
    return {figure.name: figure for figure in dict(section.rows)[name]}


def test_default_peers_name_six_and_pair_int8_with_fp32() -> None:
    found = default_peers(
        int8_tflite=BUNDLE / "model.tflite", int8_onnx=BUNDLE / "model.onnx", student_run=PACKAGED_RUN
    )
    names = [peer.name for peer in found]
    assert len(names) == len(set(names)) == 6
    assert names[0] == REFERENCE
    assert all(peer.fp32 in names for peer in found if "INT8" in peer.name)
    assert [peer.name for peer in found if peer.missing()] == ["student, LiteRT fp32", "student, ONNX Runtime fp32"]
    assert REFERENCE not in [p.name for p in default_peers(int8_tflite=None, int8_onnx=None, with_reference=False)]


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Peer(name="a", kind="litert").missing() == "no file was named"
    assert Peer(name="a", kind="litert", path=tmp_path / "gone.tflite").missing() == "gone.tflite is not there"
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    assert Peer(name="a", kind="torch", factory="reference").missing() == "the package torch is not installed"


def test_two_files_are_compared_and_the_absent_ones_are_listed() -> None:
    section = compare_peers(
        default_peers(int8_tflite=BUNDLE / "model.tflite", int8_onnx=BUNDLE / "model.onnx", with_reference=False),
        inputs=GOLDEN, turns=3,
    )  # fmt: skip
    assert [name for name, _ in section.rows] == [LITERT, "student, ONNX Runtime INT8"]
    assert "student, LiteRT fp32: not measured: no file was named" in section.notes
    found = row(section, LITERT)
    assert found["model_file"].value == (BUNDLE / "model.tflite").stat().st_size / 1024
    assert 0 < found["latency_1t_p10"].value <= found["latency_1t_p50"].value
    assert {"import", "load", "memory_peak_over_numpy", "first_in_turn_p50"} <= set(found)
    assert "speedup_over_reference" not in found
    assert "time_over_fp32" not in found


@pytest.mark.slow
def test_the_published_path_is_far_slower_than_our_file(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(peers, "_alone", lambda peer, inputs: ())
    threads = torch.get_num_threads()
    candidates = (
        Peer(name=REFERENCE, kind="torch", factory="reference"),
        Peer(name="student, torch fp32", kind="torch", factory="student", path=PACKAGED_RUN),
        Peer(name=LITERT, kind="litert", path=BUNDLE / "model.tflite", fp32="student, torch fp32"),
    )
    section = compare_peers(candidates, inputs=GOLDEN, turns=3)
    assert torch.get_num_threads() == threads
    speedup = row(section, LITERT)["speedup_over_reference"]
    # The published figures are made by `lsemvae benchmark`; this holds on any machine, busy or not.
    assert speedup.value > 50
    assert speedup.low is not None
    assert speedup.high is not None
    assert speedup.low <= speedup.value <= speedup.high
    assert "time_over_fp32" in row(section, LITERT)
    assert row(section, REFERENCE)["parameters"].value == PARAMETERS
    assert row(section, REFERENCE)["weights"].value == pytest.approx(4 * PARAMETERS / 1024)
    assert any("random weights" in note for note in section.notes)


def test_turns_interleave_all_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(peers, "_open", lambda peer, inputs: (lambda: order.append(peer.name), ()))
    monkeypatch.setattr(peers, "_BURST_CALLS", (2, 2))
    timed, _, _ = peers._in_turns([Peer(name=n, kind="onnx") for n in "AB"], GOLDEN, 4)
    warm_up = "A" * 10 + "B" * 10
    assert "".join(order) == warm_up + "AAABBB" * 4
    assert timed["A"].first_ms.shape == (4,)
    assert timed["A"].burst_ms.shape == (4, 2)


@pytest.mark.promise(126)
def test_ratios_are_taken_turn_by_turn() -> None:
    """A machine that is ten times slower in one turn slows both sides: the ratio stays."""
    slow = np.array([1.0, 1.0, 10.0])
    upper = peers._Timed(np.zeros(3), 8.0 * slow[:, None] * np.ones((3, 4)))
    lower = peers._Timed(np.zeros(3), np.array([2.0, 4.0, 2.0])[:, None] * slow[:, None] * np.ones((3, 4)))
    found = peers._ratio("speedup_over_reference", upper, lower)
    assert (found.low, found.value, found.high) == (2.0, 4.0, 4.0)


def test_an_outlier_inside_a_burst_does_not_move_its_turn() -> None:
    assert peers._Timed(np.zeros(1), np.array([[1.0, 1.0, 1.0, 90.0]])).turn_ms.tolist() == [1.0]


@pytest.mark.parametrize(("each_ms", "expected"), [(40.0, 4), (1.0, 20), (0.01, 60)])
def test_bursts_are_long_enough_and_bounded(monkeypatch: pytest.MonkeyPatch, each_ms: float, expected: int) -> None:
    monkeypatch.setattr(peers, "_open", lambda peer, inputs: (lambda: None, ()))
    monkeypatch.setattr(peers, "_once_ms", lambda call: each_ms)
    timed, _, _ = peers._in_turns([Peer(name="A", kind="onnx")], GOLDEN, 2)
    assert timed["A"].burst_ms.shape == (2, expected)


@pytest.mark.slow
def test_a_torch_peer_alone_says_import_and_memory_but_no_load_of_random_weights() -> None:
    figures = {f.name: f for f in peers._alone(Peer(name=REFERENCE, kind="torch", factory="reference"), GOLDEN)}
    assert {"import", "first_inference", "memory_peak_over_numpy"} <= set(figures)
    assert "load" not in figures
    assert figures["memory_peak_over_numpy"].value > 4 * PARAMETERS / 2**20


def test_the_student_alone_reads_its_run_folder() -> None:
    found = torch_peer.measure_alone("student", GOLDEN, PACKAGED_RUN)
    assert set(found["steps_ms"]) == {"import", "load", "first_inference"}
    assert found["steps_ms"]["load"] > 0


def test_nothing_to_measure_and_no_turns_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="found 0 measurable peers"):
        compare_peers([Peer(name="a", kind="litert")], inputs=GOLDEN)
    with pytest.raises(BenchmarkError, match="0 turns"):
        compare_peers([Peer(name="a", kind="litert", path=BUNDLE / "model.tflite")], inputs=GOLDEN, turns=0)
