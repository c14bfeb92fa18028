"""Integrated gradients: complete, in the right place, through the limb-lead derivation, and refused where they are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lsemvae.ecg.errors import FormatError, InferenceError, LeadError, SampleError
from lsemvae.ecg.leads import CHEST_LEADS, LEADS, LIMB_LEADS, LIMB_MATRIX
from lsemvae.explain.attribution import (
    Explained,
    attribute,
    channel_matrix,
    explained,
    open_run,
    path_gradients,
    twelve_leads,
)
from lsemvae.explain.summary import wave_sums
from lsemvae.explain.waves import WAVES, delineate, wave_codes
from lsemvae.model.config import LsEmvaeConfig, to_json
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.model.student import StudentNet
from lsemvae.train.checkpoint import save_tensors
from tests.explain.toy import CONFIG, FS_HZ, ecg

TINY = LsEmvaeConfig(channels=(4, 6, 8), latent=4, trunk=(8, 8), summary=4, labels=("TALL_II", "OTHER"))


def tiny_lsemvae() -> LsEmvae:
    torch.manual_seed(1)
    return LsEmvae(TINY).eval()


@pytest.mark.promise(109)
def test_a_model_that_reads_qrs_in_lead_ii_is_attributed_there(toy_student: Explained) -> None:
    data = ecg(8, seed=7)
    logits = toy_student.logits(torch.from_numpy(data.x))[:, 0].detach().numpy()
    assert ((logits > 0) == (data.tall > 1.0)).mean() >= 0.75  # it has learned
    for x in data.x[data.tall > 1.0]:
        found = attribute(x, explained=toy_student, label="TALL_II")
        codes = wave_codes(delineate(x, fs_hz=FS_HZ), n_samples=x.shape[1])
        sums = wave_sums(found.values, x_mv=x, codes=codes, channels=found.channels)
        assert np.all(found.values[0] == 0.0)  # lead I cannot have moved it
        assert sums.share[1, WAVES.index("QRS")] > 0.9
        assert sums.amplitude_share[1, WAVES.index("QRS")] < 0.5
    assert (data.tall > 1.0).sum() >= 3


@pytest.mark.promise(109)
def test_the_sum_of_a_map_is_the_change_of_the_logit(toy_student: Explained) -> None:
    x = ecg(1, seed=3).x[0]
    found = attribute(x, explained=toy_student, label="TALL_II")
    with torch.no_grad():
        change = toy_student.logits(torch.from_numpy(np.stack([x, np.zeros_like(x)])))[:, 0]
    assert found.logit == pytest.approx(float(change[0]), abs=1e-5)
    assert found.baseline_logit == pytest.approx(float(change[1]), abs=1e-5)
    assert abs(found.values.sum() - float(change[0] - change[1])) == pytest.approx(found.residual, abs=1e-4)
    assert found.residual <= found.tolerance


def test_the_map_is_the_path_integral_computed_by_hand(toy_student: Explained) -> None:
    x = torch.from_numpy(ecg(1, seed=4).x)
    alphas = (torch.arange(400) + 0.5) / 400
    points = (alphas[:, None, None] * x).requires_grad_(True)
    toy_student.logits(points)[:, 0].sum().backward()
    assert points.grad is not None
    by_hand = points.grad.mean(0).numpy()
    found = path_gradients(x, explained=toy_student, output=0, n_steps=128)
    assert np.corrcoef(found.ravel(), by_hand.ravel())[0, 1] > 0.99


def test_too_few_steps_are_refused_with_advice(toy_student: Explained) -> None:
    found = []
    for x in ecg(6, seed=5).x:
        try:
            attribute(3.0 * x, explained=toy_student, label="TALL_II", n_steps=1)
        except InferenceError as error:
            found.append(error)
    assert found
    assert all("misses the change of the logit" in str(error) and "--steps" in error.advice for error in found)


def test_limb_attribution_goes_through_the_derivation_by_the_chain_rule() -> None:
    model = tiny_lsemvae()
    on_two = explained(model, channels=("I", "II"))
    x = torch.from_numpy(ecg(1, seed=6, n_samples=2500).x)
    got = path_gradients(x, explained=on_two, output=0, n_steps=32)
    full, present = twelve_leads(x, ("I", "II"), LEADS)
    alphas = torch.from_numpy(np.polynomial.legendre.leggauss(32)[0] / 2 + 0.5).float()
    weights = torch.from_numpy(np.polynomial.legendre.leggauss(32)[1] / 2).float()
    points = (alphas[:, None, None] * full).requires_grad_(True)
    (model(points, present.expand(32, -1))[:, 0] * weights).sum().backward()
    assert points.grad is not None
    six = points.grad.sum(0)[: len(LIMB_LEADS)].double().numpy()
    assert np.allclose(got, LIMB_MATRIX.T @ six, atol=1e-4 * np.abs(six).max())


def test_derived_leads_are_the_algebra_and_absent_ones_are_absent() -> None:
    x = torch.from_numpy(ecg(2, n_samples=100 * 4).x)
    full, present = twelve_leads(torch.cat([x, 2 * x[:, :1]], 1), ("I", "II", "V2"), LEADS)
    i, ii = x[:, 0], x[:, 1]
    torch.testing.assert_close(full[:, LEADS.index("III")], ii - i)
    torch.testing.assert_close(full[:, LEADS.index("aVL")], i - ii / 2)
    torch.testing.assert_close(full[:, LEADS.index("V2")], 2 * i)
    assert present[0].tolist() == [lead in (*LIMB_LEADS, "V2") for lead in LEADS]
    assert not full[:, LEADS.index("V1")].any()
    assert np.array_equal(channel_matrix(("I", "II"), LIMB_LEADS), LIMB_MATRIX.astype(np.float32))


def test_channels_of_an_lsemvae_are_what_was_measured() -> None:
    assert explained(tiny_lsemvae()).channels == ("I", "II", *CHEST_LEADS)
    assert explained(tiny_lsemvae()).on(("V1", "II", "I")).channels == ("I", "II", "V1")


@pytest.mark.parametrize("channels", [("I",), ("I", "II", "aVL"), ("I", "II", "II"), ("I", "II", "V9")])
def test_other_channels_are_refused(channels: tuple[str, ...]) -> None:
    with pytest.raises(LeadError, match="expected I and II"):
        explained(tiny_lsemvae(), channels=channels)


def test_a_student_has_its_two_channels_only(toy_student: Explained) -> None:
    with pytest.raises(LeadError):
        toy_student.on(("I", "II", "V1"))


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(InferenceError, match="training mode"):
        explained(StudentNet(CONFIG).train())


def test_wrong_input_is_refused(toy_student: Explained) -> None:
    with pytest.raises(LeadError, match="expected \\(2, time\\)"):
        attribute(np.zeros((3, 500)), explained=toy_student, label="TALL_II")
    with pytest.raises(SampleError):
        attribute(np.full((2, 500), np.nan), explained=toy_student, label="TALL_II")
    with pytest.raises(FormatError, match="expected one of TALL_II, OTHER"):
        attribute(np.zeros((2, 500)), explained=toy_student, label="RHS")


def test_a_flat_line_has_an_empty_map(toy_student: Explained) -> None:
    found = attribute(np.zeros((2, 1250)), explained=toy_student, label="TALL_II")
    assert not found.values.any()
    assert found.logit == found.baseline_logit


def _run(root: Path, model: StudentNet | LsEmvae, **config: str) -> Path:
    root.mkdir()
    save_tensors(root / "model.safetensors", model.state_dict())
    (root / "config.json").write_text(json.dumps({"model": to_json(model.config), **config}))
    return root


def test_runs_of_both_kinds_open_and_others_are_refused(tmp_path: Path) -> None:
    student = _run(tmp_path / "s", StudentNet(CONFIG), kind="student")
    assert open_run(student).channels == ("I", "II")
    tuned = _run(tmp_path / "f", tiny_lsemvae(), kind="lsemvae", stage="finetune")
    assert open_run(tuned).labels == TINY.labels
    untaught = _run(tmp_path / "p", tiny_lsemvae(), kind="lsemvae", stage="pretrain")
    with pytest.raises(FormatError, match="pretrain"):
        open_run(untaught)
    other = _run(tmp_path / "o", tiny_lsemvae(), kind="something")
    with pytest.raises(FormatError, match="something"):
        open_run(other)
