"""The laboratory's command line: help without torch, exit codes, tables that a machine can read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lsemvae.cli import app
from lsemvae.data.folder import EcgFolder
from lsemvae.ecg.record import record_from_physical
from lsemvae.formats.npz import read_npz, write_npz
from tests.data.test_folder_format import write_folder

RUN = CliRunner()
OUTPUTS = ("RHS", "RVH", "RAE", "RAD", "CRBBB", "IRBBB", "RBBB_any", "LVH", "LAE", "CLBBB", "MI", "AFIB", "NORM")


def _beats(seed: int = 0, seconds: float = 10.0, fs_hz: int = 500) -> np.ndarray:
    """Eight leads of a plain synthetic ECG in uV `[lead, time]`: P, QRS and T as Gaussians, 75 beats a minute."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * fs_hz)) / fs_hz % 0.8
    wave = (
        120 * np.exp(-(((t - 0.2) / 0.03) ** 2))
        + 900 * np.exp(-(((t - 0.36) / 0.012) ** 2))
        + 250 * np.exp(-(((t - 0.6) / 0.05) ** 2))
    )
    return np.stack([wave * scale for scale in (0.7, 1.0, -0.4, 0.3, 0.8, 1.2, 1.1, 0.9)]) + rng.normal(
        0, 4, (8, len(t))
    )


@pytest.mark.parametrize("command", ["", *sorted(c.name or "" for c in app.registered_commands)])
def test_every_command_has_help(command: str) -> None:
    for flag in ("-h", "--help"):
        done = RUN.invoke(app, [*([command] if command else []), flag])
        assert done.exit_code == 0
        assert "Usage:" in done.output


def test_every_command_is_documented(repo_root: Path) -> None:
    page = (repo_root / "docs" / "reference" / "commands.md").read_text()
    for command in app.registered_commands:
        assert f"lsemvae {command.name}" in page, command.name


def test_version_is_that_of_the_project(repo_root: Path) -> None:
    done = RUN.invoke(app, ["--version"])
    assert done.output.strip() == "lsemvae 0.3.0"


@pytest.mark.promise(63)
def test_wrong_usage_is_exit_code_2() -> None:
    assert RUN.invoke(app, ["evaluate", "--nope"]).exit_code == 2
    assert RUN.invoke(app, ["pretrain", "--data", "x", "--out", "y", "--leave-out", "one"]).exit_code == 2


@pytest.mark.promise(63)
def test_a_user_error_is_exit_code_1_with_code_and_advice(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["evaluate", "--data", str(tmp_path), "--json"])
    assert done.exit_code == 1
    error = json.loads(done.output)["error"]
    assert error["code"] == "E_FORMAT"
    assert "metadata.csv" in error["message"]
    assert error["advice"]


@pytest.mark.promise(63)
def test_a_refused_bundle_is_exit_code_4(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    done = RUN.invoke(app, ["screen", str(tmp_path / "x.csv"), "--bundle", str(tmp_path / "b"), "--json"])
    assert done.exit_code == 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    x = np.stack([_beats(k) for k in range(3)] + [np.zeros((8, 5000))]).astype(np.int16)
    return write_folder(tmp_path / "data", x)


@pytest.mark.promise(21, 81)
def test_evaluate_writes_one_row_per_recording_with_a_column_per_output(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    done = RUN.invoke(app, ["evaluate", "--data", str(folder), "--split", "train", "--predictions", str(out), "--json"])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["uid"] for row in rows] == ["r0", "r1", "r2", "r3"]
    assert set(rows[0]) == {"uid", "outcome", "reasons", "uncertainty", "p_right_heart_strain"} | {
        f"p_{k}" for k in OUTPUTS
    }
    for row in rows[:3]:
        assert 0 <= float(row["p_RHS"]) <= 1
        assert row["p_RHS"] == row["p_right_heart_strain"]
    assert rows[3]["outcome"] == "ABSTAIN", "a flat recording is never NOT DETECTED"
    assert "FLAT" in rows[3]["reasons"]
    report = json.loads(done.output)
    assert sum(report["outcomes"].values()) == report["recordings"] == 4
    assert (
        "not pulmonary hypertension" in report["label_statement"].lower()
        or "None is pulmonary" in report["label_statement"]
    )


@pytest.mark.promise(81)
def test_evaluate_says_so_where_a_folder_states_no_label(folder: Path) -> None:
    rows = list(csv.DictReader((folder / "metadata.csv").read_text().splitlines()))
    bare = [{k: v for k, v in row.items() if not k.startswith("y_")} for row in rows]
    with (folder / "metadata.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, bare[0])
        writer.writeheader()
        writer.writerows(bare)
    done = RUN.invoke(app, ["evaluate", "--data", str(folder)])
    assert done.exit_code == 0, done.output
    assert "predictions only" in done.output


def test_screen_ends_in_an_outcome_and_stores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSEMVAE_HOME", str(tmp_path / "home"))
    record = record_from_physical(_beats()[:2], unit="uV", fs_hz=500, leads=("I", "II"))
    write_npz(tmp_path / "a.ecg.npz", record)
    done = RUN.invoke(app, ["screen", str(tmp_path / "a.ecg.npz"), "--json"])
    result = json.loads(done.output)
    assert done.exit_code in (0, 3)
    assert result["outcome"] in ("DETECTED", "NOT DETECTED", "ABSTAIN")
    assert set(result["probabilities"]) == {f"p_{k}" for k in OUTPUTS}
    assert not (tmp_path / "home").exists()


@pytest.mark.promise(21)
def test_a_four_second_recording_abstains_with_exit_code_3(tmp_path: Path) -> None:
    record = record_from_physical(_beats(seconds=4)[:2], unit="uV", fs_hz=500, leads=("I", "II"))
    write_npz(tmp_path / "a.ecg.npz", record)
    done = RUN.invoke(app, ["screen", str(tmp_path / "a.ecg.npz"), "--json"])
    assert done.exit_code == 3
    assert "TOO_SHORT" in json.loads(done.output)["reasons"]


def test_doctor_tells_what_is_installed() -> None:
    done = RUN.invoke(app, ["doctor", "--json"])
    report = json.loads(done.output)
    assert report["laboratory"]["torch"]
    assert {check["name"] for check in report["clinic"]} >= {"bundle"}


@pytest.mark.slow
def test_convert_pretrain_finetune_distill_calibrate_from_the_command_line(tmp_path: Path) -> None:
    """The way of a researcher, on a toy: every stage is one command and leaves what the next one needs."""
    x = np.stack([_beats(k) * (1 + 0.5 * (k % 2)) for k in range(80)]).astype(np.int16)
    data = write_folder(tmp_path / "data", x)
    store, fast = str(tmp_path / "store"), ["--epochs", "1", "--leave-out", "4"]
    steps = [
        ["convert", "--data", str(data), "--out", store],
        ["pretrain", "--data", store, "--out", str(tmp_path / "p"), *fast],
        ["finetune", "--data", store, "--from", str(tmp_path / "p"), "--out", str(tmp_path / "f"), *fast],
        ["distill", "--data", store, "--teacher", str(tmp_path / "f"), "--out", str(tmp_path / "s"), *fast],
    ]
    for step in steps:
        done = RUN.invoke(app, step)
        assert done.exit_code == 0, (step[0], done.output)
    again = RUN.invoke(app, steps[0])
    assert again.exit_code == 1
    assert "exists already" in again.output
    done = RUN.invoke(app, ["calibrate", str(tmp_path / "s"), "--data", store])
    assert done.exit_code == 1, "a toy that has one class only cannot be calibrated"
    assert "expected at least one of each to calibrate" in done.output


def test_export_of_a_folder_that_is_no_run_is_exit_code_1_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    assert RUN.invoke(app, ["convert", "--data", str(folder), "--out", str(tmp_path / "store")]).exit_code == 0
    (tmp_path / "run").mkdir()
    out = tmp_path / "bundle"
    arguments = ["export", str(tmp_path / "run"), "--data", str(tmp_path / "store"), "--out", str(out), "--json"]
    done = RUN.invoke(app, [*arguments, "--target", "tflite", "--int8"])
    assert done.exit_code == 1
    assert "config.json" in json.loads(done.stdout)["error"]["message"]
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "found"),
    [
        (["evaluate", "--data", "{data}", "--predictions", "{tmp}/nowhere/p.csv"], "E_STORE", "there is no folder"),
        (["evaluate", "--data", "{data}", "--predictions", "{tmp}"], "E_STORE", "it is a folder"),
        (["evaluate", "--data", "{data}", "--split", ""], "E_FORMAT", "found no recording with split ''"),
        (["convert", "--data", "{data}", "--out", "{file}/store"], "E_STORE", "Not a directory"),
        (["convert", "--data", "{tmp}", "--out", "{tmp}/s", "--patients", "{tmp}/no.csv"], "E_FORMAT", "no.csv"),
        (["pretrain", "--data", "{store}", "--out", "{file}/p"], "E_STORE", "Not a directory"),
        (["pretrain", "--data", "{store}", "--out", "{tmp}/p", "--leave-out", "9"], "E_FORMAT", "found folds [9] to"),
        (["pretrain", "--data", "{store}", "--out", "{tmp}/p", "--leave-out", "1,2,3,4"], "E_FORMAT", "no recording"),
        (["reproduce", "--data", "{data}", "--out", "{tmp}/r", "--bundle-version", "new"], "E_FORMAT", "version 'new'"),
    ],
)
def test_defect_what_cannot_be_read_or_written_ends_with_code_and_advice(
    folder: Path, tmp_path: Path, arguments: list[str], code: str, found: str
) -> None:
    (tmp_path / "file").write_text("")
    places = {"data": folder, "tmp": tmp_path, "file": tmp_path / "file", "store": tmp_path / "store"}
    if "{store}" in arguments:
        assert RUN.invoke(app, ["convert", "--data", str(folder), "--out", str(places["store"])]).exit_code == 0
    done = RUN.invoke(app, [*(text.format(**places) for text in arguments), "--json"])
    assert done.exit_code == 1, done.output
    error = json.loads(done.stdout)["error"]
    assert error["code"] == code
    assert found in error["message"]
    assert "expected" in error["message"] or "cannot be read" in error["message"]
    assert error["advice"]


@pytest.mark.promise(92)
@pytest.mark.needs_data
@pytest.mark.slow
def test_evaluate_on_the_development_data_reproduces_the_cards_numbers(repo_root: Path, ecg_data_dir: Path) -> None:
    """Held-out INT8 figures of the three cross-validation bundles, recomputed, against what the shipped manifest states."""
    bundles = repo_root / "docs/evidence/cv"
    done = RUN.invoke(app, ["evaluate", str(bundles), "--data", str(ecg_data_dir), "--known-gain", "--json"])
    assert done.exit_code == 0, done.output
    found = {(row["label"], row["negatives"]): row for row in json.loads(done.stdout)["results"]}
    stated = json.loads((repo_root / "edge_app/bundle/manifest.json").read_text())["performance"]
    assert len(stated) == len(found) == len(OUTPUTS) + 1
    card = (repo_root / "edge_app/bundle/card.md").read_text()
    for row in stated:
        ours = found[row["label"], row["negatives"]]
        assert (ours["n"], ours["positives"]) == (row["n"], row["positives"])
        # another CPU may round an INT8 activation the other way; 0.003 is the parity bar of an export
        np.testing.assert_allclose(ours["auroc"], row["auroc"], atol=0.003)
        assert f"{row['auroc'][0]:.3f} ({row['auroc'][1]:.3f} to {row['auroc'][2]:.3f})" in card


def test_extract_writes_one_recording_that_the_clinic_reads(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.ecg.npz"
    arguments = ["extract", "r1", "--data", str(folder), "--out", str(out), "--json"]
    done = RUN.invoke(app, arguments)
    assert done.exit_code == 0, done.output
    record, expected = read_npz(out), EcgFolder(folder).record(EcgFolder(folder).rows[1])
    assert record.leads == expected.leads
    np.testing.assert_array_equal(record.to_mv(), expected.to_mv())
    again = RUN.invoke(app, arguments)
    assert again.exit_code == 1
    assert "expected no such file" in json.loads(again.stdout)["error"]["message"]


def test_extract_of_an_unknown_uid_shows_some_known_ones(folder: Path, tmp_path: Path) -> None:
    done = RUN.invoke(app, ["extract", "r9", "--data", str(folder), "--out", str(tmp_path / "x.ecg.npz"), "--json"])
    assert done.exit_code == 1
    assert "r0, r1" in json.loads(done.stdout)["error"]["message"]
    assert not (tmp_path / "x.ecg.npz").exists()


def test_export_without_data_asks_for_the_store_where_the_run_notes_none(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    done = RUN.invoke(app, ["export", str(run), "--target", "tflite", "--int8", "--out", str(tmp_path / "b"), "--json"])
    assert done.exit_code == 1
    assert "--data" in json.loads(done.stdout)["error"]["advice"]
    assert not (tmp_path / "b").exists()
