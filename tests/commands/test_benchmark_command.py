"""`lsemvae benchmark` as typed."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lsemvae.cli import app
from lsemvae.screen.bundle import SHIPPED_BUNDLE

RUN = CliRunner()
FEW = ("--runs", "5")


@pytest.mark.slow
def test_the_host_is_measured_and_drawn(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["benchmark", *FEW, "--json", "--picture", str(tmp_path / "p.png"), "--require-measured"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    (section,) = said["sections"]
    assert section["basis"] == "MEASURED"
    assert [row["name"] for row in section["rows"]] == ["model.tflite", "model.onnx"]
    for row in section["rows"]:
        latency = next(figure for figure in row["figures"] if figure["name"] == "latency_1t_p50")
        assert (latency["unit"], latency["basis"]) == ("ms", "MEASURED")
        assert 0.01 < latency["value"] < 1000
    assert "not pulmonary hypertension" in said["bundle"]["label_statement"]
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_a_bundle_that_nobody_trusted_signed_is_never_run(tmp_path: Path) -> None:
    bundle = shutil.copytree(SHIPPED_BUNDLE, tmp_path / "b")
    model = bundle / "model.tflite"
    model.chmod(model.stat().st_mode | stat.S_IWUSR)
    model.write_bytes(model.read_bytes()[:-1] + b"\x00")
    done = RUN.invoke(app, ["benchmark", str(bundle), *FEW, "--json"])
    assert done.exit_code == 4
    assert json.loads(done.stdout)["error"]["code"] == "E_BUNDLE_HASH"


@pytest.fixture
def bare_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A laptop without any program of the counting, and without a cache."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_board_that_is_not_there_is_projected_without_any_program(bare_path: None, tmp_path: Path) -> None:
    done = RUN.invoke(app, ["benchmark", "--device", "pi4"])
    assert done.exit_code == 0, done.output
    answer = "lsemvae-limb 0.3.0 on Raspberry Pi 4: PROJECTED 2.35 ms (1.05 - 6.56) an inference, one thread; no board was there."
    assert done.stdout.splitlines()[0] == answer
    assert "basis: PROJECTED" in done.stdout
    assert not (tmp_path / "cache").exists()
    said = json.loads(RUN.invoke(app, ["benchmark", "--device", "pi4", "--json"]).stdout)
    assert [section["basis"] for section in said["sections"]] == ["EMULATED-FUNCTIONAL-ONLY", "PROJECTED", "PROJECTED"]
    assert (
        said["evidence"]["projection"]["a72_instructions"]
        == said["evidence"]["emulation"]["LiteRT INT8"]["instructions"]
    )


@pytest.mark.slow
def test_a_projection_needs_no_torch(tmp_path: Path) -> None:
    """In a fresh process in which importing torch fails."""
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from lsemvae.cli import main\nsys.argv = ['lsemvae', 'benchmark', '--device', 'pi4', '--json']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sections"][1]["basis"] == "PROJECTED"


def test_a_graph_that_was_never_counted_is_an_error_that_offers_the_board(
    bare_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.benchmark.projected.counts.recorded", dict)
    done = RUN.invoke(app, ["benchmark", "--device", "pi4", "--json"])
    assert done.exit_code == 1
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "E_BENCHMARK_COUNT"
    assert "never counted" in error["message"]
    assert "missing here: qemu-aarch64, mmdebstrap, gcc, setarch" in error["advice"]
    assert "benchmark --ssh" in error["advice"]


def test_a_board_that_does_not_answer_is_an_error_with_advice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho 'ssh: connect to host pi port 22: Connection refused' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    done = RUN.invoke(app, ["benchmark", "--ssh", "user@pi", "--json"])
    assert done.exit_code == 1
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "E_BENCHMARK_BOARD"
    assert "Connection refused" in error["message"]
    assert error["advice"]


def test_an_unknown_device_lists_the_known_ones() -> None:
    done = RUN.invoke(app, ["benchmark", "--device", "pi6", "--json"])
    assert done.exit_code == 1
    assert "host, pi4, pi5, zero2w" in json.loads(done.stdout)["error"]["message"]


def test_nothing_measured_on_the_device_is_exit_code_3_where_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from export.benchmark.job import BenchmarkReport

    def projected_only(job):
        return BenchmarkReport(title="t", device=job.device, bundle={"label_statement": "readers"}, sections=())

    monkeypatch.setattr("export.benchmark.run.run_benchmark", projected_only)
    assert RUN.invoke(app, ["benchmark", "--device", "pi4"]).exit_code == 0
    assert RUN.invoke(app, ["benchmark", "--device", "pi4", "--require-measured"]).exit_code == 3


@pytest.mark.promise(124)
def test_a_pc_over_ssh_is_not_a_raspberry_pi_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    from export.benchmark.basis import ANOTHER_MACHINE, Basis, BenchmarkSection

    seen = BenchmarkSection(title="a PC, over ssh", basis=Basis.MEASURED, rows=(), measured_on=ANOTHER_MACHINE)
    monkeypatch.setattr("export.benchmark.run.measure_board", lambda *_, **__: seen)
    words = ["benchmark", "--ssh", "x86box", "--device", "pi4"]
    assert RUN.invoke(app, words).exit_code == 0
    assert RUN.invoke(app, [*words, "--require-measured"]).exit_code == 3
