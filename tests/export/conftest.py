"""A tiny student, trained for a second on waveforms of our own making, and one export of it for the whole room."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from export.gates.gates import GateThresholds
from export.gates.golden import RAW_FS_HZ, GoldenCase, limb_leads_mv
from export.run import ExportResult, export_run
from export.student_run.data import ExportData
from lsemvae.ecg.frontend import apply_array
from lsemvae.model.config import StudentConfig, to_json
from lsemvae.model.student import StudentNet
from lsemvae.train.checkpoint import save_tensors
from lsemvae.train.run import write_json

LABELS = ("RHS", "RBBB_any", "NORM")
CONFIG = StudentConfig(channels=(8, 8), kernels=(15, 9), strides=(4, 4), summary=8, labels=LABELS)
N_CALIBRATION, N_VALIDATION = 256, 240
# A network of 2 k parameters spends its time on overhead, not on arithmetic: its latency tells nothing.
NO_LATENCY_GATE = GateThresholds(max_latency_ratio=None)


def make_records(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`n` synthetic recordings through the front-end `[n, 2, 2500]` mV; labels: right axis, wide QRS, neither."""
    rng = np.random.default_rng(seed)
    ecg, labels = [], []
    for _ in range(n):
        right, wide = rng.random(2) < 0.35
        case = GoldenCase(
            "random",
            rate_bpm=float(rng.uniform(50, 110)),
            qrs_axis_deg=float(rng.normal(125 if right else 45, 22)),
            qrs_mv=float(rng.uniform(0.4, 2.4)),
            qrs_width_s=max(0.007, float(rng.normal(0.026 if wide else 0.013, 0.004))),
            t_mv=float(rng.uniform(0.1, 0.4)),
        )
        raw = limb_leads_mv(case) + rng.normal(0, 0.03, (6, 5000)).astype(np.float32)
        ecg.append(apply_array(raw[:2], fs_hz=RAW_FS_HZ))
        labels.append((right, wide, not (right or wide)))
    return np.stack(ecg), np.array(labels, dtype=np.float64)


def train_student(ecg: np.ndarray, labels: np.ndarray) -> StudentNet:
    """Enough steps for logits that mean something; on one thread, for sharing so small a network costs more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = StudentNet(CONFIG)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    x, y = torch.from_numpy(ecg), torch.from_numpy(labels.astype(np.float32))
    for step in range(60):
        rows = torch.arange(step * 32, step * 32 + 32) % len(x)
        logits, uncertainty = net(x[rows])
        loss = (
            torch.nn.functional.binary_cross_entropy_with_logits(logits, y[rows]) + 1e-3 * uncertainty.square().mean()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    return net.eval()


def write_run(run_dir: Path, net: StudentNet) -> Path:
    """A run folder as the trainer and the evaluation leave it."""
    run_dir.mkdir(parents=True)
    save_tensors(run_dir / "model.safetensors", net.state_dict())
    write_json(
        run_dir / "config.json",
        {"kind": "student", "model": to_json(net.config), "labels": list(net.config.labels), "leads": ["I", "II"]},
    )
    command = f"lsemvae distill --out {run_dir}"
    write_json(run_dir / "run.json", {"command": command, "git_revision": "0" * 40, "seed": 0, "folds_left_out": []})
    rule = {
        "primary": "RHS",
        "calibrations": {label: {"slope": 1.0, "intercept": 0.0} for label in net.config.labels},
        "thresholds": dict.fromkeys(net.config.labels, 0.5),
        "abstain_band": [0.5, 0.5],
        "max_uncertainty": None,
        "interval_logit_sd": 0.2,
    }
    write_json(run_dir / "decision.json", {"decision": rule, "performance": [{"label": "RHS", "auroc": 0.9}]})
    (run_dir / "card.md").write_text("# A test student\n", encoding="utf-8")
    return run_dir


@dataclass(frozen=True)
class Exported:
    """The shared export: its run folder, its data and its bundle."""

    run_dir: Path
    data: ExportData
    out: Path
    result: ExportResult
    progress: tuple[str, ...]

    @property
    def work(self) -> Path:
        return self.run_dir / "export"

    def read(self, name: str) -> dict:
        return json.loads((self.out / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def export_data() -> ExportData:
    calibration, _ = make_records(N_CALIBRATION, seed=1)
    validation, truth = make_records(N_VALIDATION, seed=2)
    return ExportData(
        calibration=calibration,
        calibration_ids=tuple(f"c{k}" for k in range(N_CALIBRATION)),
        validation=validation,
        validation_ids=tuple(f"v{k}" for k in range(N_VALIDATION)),
        truth=truth,
    )


@pytest.fixture(scope="session")
def student() -> StudentNet:
    return train_student(*make_records(400, seed=0))


@pytest.fixture(scope="session")
def keys_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _own_keys(keys_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSEMVAE_HOME", str(keys_home))


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory, export_data: ExportData, student: StudentNet, keys_home: Path
) -> Exported:
    """Both targets, INT8: the only full conversion of the room."""
    root = tmp_path_factory.mktemp("export")
    run_dir, out, said = write_run(root / "run", student), root / "bundle", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSEMVAE_HOME", str(keys_home))
        result = export_run(run_dir, out=out, data=export_data, gates=NO_LATENCY_GATE, progress=said.append)
    return Exported(run_dir, export_data, out, result, tuple(said))


@pytest.fixture
def run_copy(exported: Exported, tmp_path: Path) -> Path:
    """A run folder of one's own, without earlier work files."""
    return Path(shutil.copytree(exported.run_dir, tmp_path / "run", ignore=shutil.ignore_patterns("export")))
