"""The clinic's command on the clinic's processor: Debian 12 and 13 for arm64, the hash-locked wheels, an emulated Pi 4.

What is compared is what an operator sees: outcome, probability, reasons. No time is: an emulator's is no latency.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.benchmark.devices import board
from export.gates.golden import CASES, RAW_FS_HZ, limb_leads_mv
from lsemvae.ecg.leads import LIMB_LEADS
from lsemvae.ecg.record import record_from_physical
from lsemvae.formats.npz import write_npz
from tools.arm64.qemu import SITE, run_python
from tools.arm64.root import PYTHON_OF, Arm64Root, ensure_root

pytestmark = [pytest.mark.slow, pytest.mark.needs_qemu, pytest.mark.usefixtures("needs_qemu")]

PI4 = board("pi4")
TIMEOUT_S = 240.0
# The INT8 region gives the same integers on both; the float head behind it differs by a few units in the last place of
# a float32, and the sigmoid's slope is at most 1/4.
PROBABILITY_TOLERANCE = 1e-6
RECORDINGS = ("golden", "right axis, peaked P")


def root(suite: str, repo_root: Path) -> Arm64Root:
    return ensure_root(suite, lock=repo_root / "requirements" / "edge.txt")


def recording(name: str, folder: Path, repo_root: Path) -> Path:
    """The raw recording of the shipped golden file, or one of its waveforms by name, as the app's own format."""
    if name == "golden":
        with np.load(repo_root / "edge_app" / "bundle" / "golden.npz", allow_pickle=False) as stored:
            raw_mv, fs_hz = stored["raw_mv"], float(stored["raw_fs_hz"])
    else:
        raw_mv, fs_hz = limb_leads_mv(next(case for case in CASES if case.name == name)), RAW_FS_HZ
    path = folder / "golden.ecg.npz"
    write_npz(path, record_from_physical(raw_mv, unit="mV", fs_hz=fs_hz, leads=LIMB_LEADS, lsb_uv=1.0))
    return path


def installed_as(folder: Path) -> Path:
    """A folder that tells the interpreter that this checkout is installed, as pip does for an editable one."""
    release = version("lsemvae")
    info = folder / "installed" / f"lsemvae-{release}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: lsemvae\nVersion: {release}\n", encoding="utf-8")
    return info.parent


def command(path: Path) -> list[str]:
    return ["-m", "edge_app", "screen", str(path), "--json", "--no-store"]


def on_host(path: Path, repo_root: Path) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, *command(path)], cwd=repo_root, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(repo_root)},
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)


def on_pi(path: Path, *, root: Arm64Root, installed: Path, repo_root: Path) -> tuple[int, dict[str, Any]]:
    done = run_python(
        command(path), root=root, device=PI4, shown={}, python_path=(str(repo_root), str(installed), SITE),
        timeout_s=TIMEOUT_S,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.promise(128)
@pytest.mark.parametrize("suite", PYTHON_OF)
def test_the_emulated_interpreter_sees_a_raspberry_pi_4(suite, repo_root):
    program = (
        "import json, platform, pathlib; cpu = pathlib.Path('/proc/cpuinfo').read_text();"
        "print(json.dumps([platform.machine(), platform.python_version_tuple()[:2], cpu]))"
    )
    done = run_python(["-c", program], root=root(suite, repo_root), device=PI4, shown={}, timeout_s=TIMEOUT_S)
    machine, python, cpu = json.loads(done.stdout)
    assert machine == "aarch64"
    assert ".".join(python) == PYTHON_OF[suite]
    assert cpu.count("CPU part\t: 0xd08") == PI4.cores  # Cortex-A72
    features = next(line for line in cpu.splitlines() if line.startswith("Features")).split()
    assert not {"aes", "sha2", "asimddp", "atomics"} & set(features)


@pytest.mark.promise(128)
@pytest.mark.parametrize("name", RECORDINGS)
@pytest.mark.parametrize("suite", PYTHON_OF)
def test_screen_under_qemu_says_what_the_host_says(suite, name, repo_root, tmp_path):
    path = recording(name, tmp_path, repo_root)
    host_status, host = on_host(path, repo_root)
    status, pi = on_pi(path, root=root(suite, repo_root), installed=installed_as(tmp_path), repo_root=repo_root)

    assert host["outcome"] in ("DETECTED", "NOT DETECTED")
    for key in ("outcome", "label", "label_statement", "reasons", "error_code", "advice"):
        assert pi[key] == host[key], key
    assert status == host_status
    assert pi["model"]["id"] == host["model"]["id"]
    assert pi["model"]["runtime"].startswith("ai_edge_litert")

    assert pi["probability"] == pytest.approx(host["probability"], abs=PROBABILITY_TOLERANCE)
    assert f"{pi['probability']:.4f}" == f"{host['probability']:.4f}"
    assert pi["interval"] == pytest.approx(host["interval"], abs=PROBABILITY_TOLERANCE)
    assert pi["uncertainty"] == pytest.approx(host["uncertainty"], abs=PROBABILITY_TOLERANCE)
    assert pi["probabilities"] == pytest.approx(host["probabilities"], abs=PROBABILITY_TOLERANCE)


def test_the_two_recordings_are_told_apart(repo_root, tmp_path):
    """Equal answers prove nothing where every recording gets the same one."""
    outcomes = {on_host(recording(name, tmp_path, repo_root), repo_root)[1]["outcome"] for name in RECORDINGS}
    assert outcomes == {"DETECTED", "NOT DETECTED"}
