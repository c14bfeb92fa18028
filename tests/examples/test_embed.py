"""examples/embed.py: runs as it is written, with the packaged student and with a run folder of an LS-EMVAE."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lsemvae.ecg.errors import LeadError
from lsemvae.ecg.leads import LEADS, LIMB_LEADS
from lsemvae.ecg.record import record_from_physical
from lsemvae.formats.npz import write_npz
from lsemvae.model.config import LsEmvaeConfig, StudentConfig, to_json
from lsemvae.model.embed import embed
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.model.student import StudentNet
from lsemvae.train.checkpoint import save_tensors
from lsemvae.train.run import write_json

TINY = LsEmvaeConfig(channels=(4, 6, 8), latent=4, trunk=(8, 8), summary=5)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, t = np.random.default_rng(0), np.arange(5000) / 500
    beats = np.exp(-(((t % 0.8) - 0.4) ** 2) / 0.0004)
    uv = beats * rng.uniform(200, 900, (8, 1)) + rng.normal(0, 10, (8, 5000))
    path = tmp_path_factory.mktemp("embed") / "one.ecg.npz"
    leads = ("I", "II", *LEADS[6:])
    write_npz(path, record_from_physical(uv, unit="uV", fs_hz=500.0, leads=leads, record_id="one"))
    return path


def _run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples/embed.py"), *map(str, words)]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "PYTHONPATH": paths}
    )


@pytest.mark.slow
def test_the_packaged_student_embeds_two_leads(recording: Path) -> None:
    done = _run(recording, "--leads", "I,II")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"2 leads \(I, II\): embedding \(1, 32\), begins \[.*\]\n", done.stdout)


@pytest.mark.slow
def test_a_run_of_an_lsemvae_embeds_twelve_six_and_two_leads(recording: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    write_json(tmp_path / "config.json", {"kind": "lsemvae", "stage": "pretrain", "model": to_json(TINY)})
    save_tensors(tmp_path / "model.safetensors", LsEmvae(TINY).state_dict())
    done = _run(recording, "--run", tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(" leads")[0] for line in lines] == ["12", "6", "2"]
    assert all("embedding (1, 5)" in line for line in lines)
    assert len({line.split("begins")[1] for line in lines}) == 3


def test_an_embedding_does_not_depend_on_the_order_of_leads_or_on_the_batch() -> None:
    torch.manual_seed(1)
    model, x = LsEmvae(TINY), np.random.default_rng(1).normal(0, 0.2, (3, 6, 2500))
    found = embed(model, x, leads=LIMB_LEADS)
    assert found.shape == (3, 5)
    assert model.training, "left as it was"
    np.testing.assert_allclose(embed(model, x[:, ::-1], leads=LIMB_LEADS[::-1]), found, atol=1e-6)
    np.testing.assert_allclose(embed(model, x[1:2], leads=LIMB_LEADS)[0], found[1], atol=1e-5)
    assert np.abs(embed(model, x[:, :2], leads=("I", "II")) - found).max() > 1e-4


def test_a_student_takes_its_leads_by_name_and_refuses_to_do_without() -> None:
    torch.manual_seed(2)
    net, x = (
        StudentNet(StudentConfig(channels=(4, 6, 8, 8, 8), summary=4)),
        np.ones((1, 3, 2500)) * [[[0.1], [0.2], [0.3]]],
    )
    found = embed(net, x, leads=("II", "V1", "I"))
    np.testing.assert_array_equal(found, embed(net, x[:, [2, 0]], leads=("I", "II")))
    with pytest.raises(LeadError, match="found the leads I, V1, expected also II"):
        embed(net, x[:, :2], leads=("I", "V1"))
    with pytest.raises(LeadError, match=r"found an array of shape \(1, 3, 2500\)"):
        embed(net, x, leads=("I", "II"))
