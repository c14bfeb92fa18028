"""`lsemvae bundle`: the clinic's show and verify, and a comparison that names every difference and what it does."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

import lsemvae.screen.diff.compare
import lsemvae.terminal.bundle_view
from lsemvae.commands.bundle import app
from lsemvae.ecg.errors import RuntimeMissingError
from lsemvae.ecg.rule import Calibration, DecisionRule
from lsemvae.screen.diff.text import show
from tests import bundles

RUN = CliRunner()
PLAIN_RULE = DecisionRule(
    primary=bundles.LABELS[0],
    calibrations={label: Calibration(1.0, 0.0) for label in bundles.LABELS},
    thresholds=dict.fromkeys(bundles.LABELS, 0.5),
    abstain_band=(0.45, 0.5),
    max_uncertainty=0.0,
    interval_logit_sd=0.4,
)
ROW = {"label": "LVH", "negatives": "all", "dataset": "d", "n": 100, "auroc": [0.9, 0.85, 0.95], "ece": 0.01}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    weights = bundles.make_weights()
    tiny = bundles.tflite_model(
        weights, output_names=("logits", "uncertainty"), signature=True, n_labels=len(bundles.LABELS)
    )
    return {
        "model.tflite": tiny,
        "golden.npz": bundles.npz_bytes(bundles.golden_arrays(weights)),
        "card.md": b"A card.\n",
    }


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


class Room:
    """Two bundles side by side, and the keys that are trusted."""

    def __init__(self, root: Path, files: dict[str, bytes], key: Ed25519PrivateKey) -> None:
        self.root, self.trust = root, root / "trust"
        self.a, self.b = (bundles.BundleBuilder(key, bundles.make_weights(), dict(files)) for _ in "ab")
        for builder in (self.a, self.b):
            builder.changes["decision"] = PLAIN_RULE.to_dict()
        self.trust.mkdir()

    def write(self) -> tuple[Path, Path]:
        for name, builder in (("a", self.a), ("b", self.b)):
            (self.trust / f"{name}.pub").write_text(builder.public_key.hex(), encoding="ascii")
            shutil.rmtree(self.root / name, ignore_errors=True)
            builder.write(self.root / name)
        return self.root / "a", self.root / "b"

    def run(self, *options: str) -> Any:
        a, b = self.write()
        return RUN.invoke(app, ["diff", str(a), str(b), "--trust", str(self.trust), *options])

    def json(self) -> dict[str, Any]:
        done = self.run("--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def changes(self) -> dict[str, dict[str, Any]]:
        """Return every difference by its field."""
        return {change["field"]: change for found in self.json()["changes"].values() for change in found}


@pytest.fixture
def room(tmp_path: Path, files: dict[str, bytes], key: Ed25519PrivateKey) -> Room:
    return Room(tmp_path, files, key)


def rule(**changes: Any) -> dict[str, Any]:
    """A rule without calibration as JSON values, changed."""
    return {**PLAIN_RULE.to_dict(), **changes}


def test_the_same_bundle_has_no_difference(room: Room) -> None:
    found = room.json()
    assert found["equal"] is True
    assert found["changes"] == {}
    assert found["rollout"] == ["Nothing changes: the bundles are the same byte for byte."]
    assert set(found["golden"]["max_dp"].values()) == {0.0}
    assert room.run("--exit-code").exit_code == 0
    assert "not pulmonary hypertension" in room.run().stdout


def test_a_difference_is_exit_code_1_only_where_that_is_asked_for(room: Room) -> None:
    room.b.changes["licence"] = "MIT"
    assert room.run().exit_code == 0
    assert room.run("--exit-code").exit_code == 1
    assert room.run("--exit-code", "--json").exit_code == 1


FRONTEND = replace(bundles.SPEC, resample_db=60.0)
FIELDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "licence": ("identity", {"licence": "MIT"}, "licence"),
    "time": ("identity", {"created_utc": "2026-02-01T00:00:00Z"}, "created_utc"),
    "statement": ("meaning", {"label_statement": "Other statements."}, "label_statement"),
    "not for": ("meaning", {"not_for": ["People", "Cats"]}, "not_for"),
    "host": ("identity", {"min_host": "0.2.0"}, "min_host"),
    "front-end": (
        "input and front-end",
        {"frontend": {**FRONTEND.to_dict(), "coeff_sha256": FRONTEND.sha256()}},
        "frontend/coeff_sha256",
    ),
    "description": (
        "outputs",
        {"outputs": [{"label": n, "column": f"p_{n}", "primary": n == bundles.LABELS[0], "description": "x"} for n in bundles.LABELS]},
        "outputs/output/LVH/description",
    ),
    "threshold": ("decision", {"decision": rule(thresholds=dict.fromkeys(bundles.LABELS, 0.6))}, "decision/thresholds/LVH"),
    "band": ("decision", {"decision": rule(abstain_band=[0.4, 0.5])}, "decision/abstain_band"),
    "uncertainty": ("decision", {"decision": rule(max_uncertainty=None)}, "decision/max_uncertainty"),
    "quality": ("quality gate", {"quality": {**bundles.QUALITY.to_dict(), "max_noise_mv": 0.04}}, "quality/max_noise_mv"),
    "performance": ("performance", {"performance": [ROW]}, "performance/LVH, all, d"),
    "parity": ("parity", {"parity": {"golden_tolerance": 0.06}}, "parity/golden_tolerance"),
    "provenance": ("provenance", {"provenance": {"seed": 3}}, "provenance/seed"),
    "a whole number and the same with a point": ("provenance", {"provenance": {"golden": {"x": 1.0}}}, "provenance/golden"),
    "a field of another release": ("other", {"colour": "blue"}, "colour"),
}  # fmt: skip


@pytest.mark.promise(120)
@pytest.mark.parametrize("name", FIELDS)
def test_every_part_of_the_manifest_is_compared(room: Room, name: str) -> None:
    section, changes, field = FIELDS[name]
    room.b.changes.update(changes)
    found = room.json()
    assert found["equal"] is False
    assert section in found["changes"]
    assert field in [change["field"] for change in found["changes"][section]]
    assert len(found["changes"]) == 1, "and nothing else"


def test_a_number_of_another_type_is_a_difference(room: Room) -> None:
    room.a.changes["provenance"], room.b.changes["provenance"] = {"n": 1}, {"n": 1.0}
    found = room.json()
    assert found["equal"] is False
    assert [change["field"] for change in found["changes"]["provenance"]] == ["provenance/n"]


def test_a_changed_file_is_named_with_its_size(room: Room) -> None:
    room.b.files["card.md"] += b"More.\n"
    changes = room.changes()
    assert changes["files/card.md/bytes"]["effect"] == "+6 bytes"
    assert len(changes["files/card.md/sha256"]["b"]) == 64
    room.b.files.pop("card.md")
    assert room.changes()["files/card.md"]["only_in"] == "a"


def test_a_moved_threshold_says_how_far_on_the_logit_scale(room: Room) -> None:
    room.b.changes["decision"] = rule(thresholds={**dict.fromkeys(bundles.LABELS, 0.5), "LVH": 0.7})
    change = room.changes()["decision/thresholds/LVH"]
    assert change["effect"].startswith(f"{math.log(0.7 / 0.3):+.3f} on the logit scale, B asks for a higher")


def test_calibration_and_threshold_together_move_the_cut_off_of_the_same_model(room: Room) -> None:
    calibrations = {**rule()["calibrations"], "LVH": {"slope": 2.0, "intercept": -1.0}}
    room.b.changes["decision"] = rule(calibrations=calibrations, thresholds={**rule()["thresholds"], "LVH": 0.7})
    changes = room.changes()
    cut = changes["decision/cut-off on the raw logit/LVH"]
    assert (cut["a"], cut["b"]) == (0.0, pytest.approx((math.log(0.7 / 0.3) + 1) / 2))
    assert cut["effect"].endswith("B detects less often")
    assert "decision/cut-off on the raw logit/NORM" not in changes


def test_raw_logits_of_two_models_are_not_compared(room: Room) -> None:
    room.b.changes["decision"] = rule(thresholds={**rule()["thresholds"], "LVH": 0.7})
    room.b.files |= other_model()
    assert "decision/thresholds/LVH" in room.changes()
    assert not [field for field in room.changes() if "raw logit" in field]


@pytest.mark.parametrize(
    ("b", "effect"),
    [
        ([0.91, 0.86, 0.96], "inside each other's interval"),
        ([0.84, 0.80, 0.88], "intervals overlap"),
        ([0.70, 0.65, 0.75], "intervals apart, B lower"),
        ([0.98, 0.97, 0.99], "intervals apart, B higher"),
    ],
)
def test_performance_is_compared_with_its_intervals(room: Room, b: list[float], effect: str) -> None:
    room.a.changes["performance"], room.b.changes["performance"] = [ROW], [ROW | {"auroc": b}]
    found = room.json()
    (change,) = found["changes"]["performance"]
    assert (change["field"], change["effect"]) == ("performance/LVH, all, d/auroc", effect)
    (sentence,) = [line for line in found["rollout"] if line.startswith("AUROC")]
    assert ("LOWER beyond the intervals for LVH" in sentence) == (effect.endswith("lower"))


def test_rows_of_performance_are_matched_by_name_not_by_place(room: Room) -> None:
    other = ROW | {"label": "NORM"}
    room.a.changes["performance"], room.b.changes["performance"] = [ROW, other], [other, ROW]
    assert list(room.changes()) == ["performance/order of rows"]


@pytest.mark.promise(120)
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"version": "1.1.9"}, "A board that has used A REFUSES B: version 1.1.9 is older than 1.2.0."),
        ({"version": "1.10.0"}, "A board accepts B (1.2.0 -> 1.10.0) and refuses A from then on"),
        ({"licence": "MIT"}, "Both are version 1.2.0 with different content"),
        ({"id": "another-model"}, "B is another model (another-model, A is test-model)"),
        ({"min_host": "0.1.1"}, "Boards with an app older than 0.1.1 refuse B (A: 0.1.0)."),
        ({"label_statement": "Else."}, "do not pool results of A and B"),
        ({"quality": {**bundles.QUALITY.to_dict(), "max_noise_mv": 0.04}}, "another share of recordings gets no answer"),
    ],
)  # fmt: skip
def test_what_it_means_for_a_board(room: Room, changes: dict[str, Any], sentence: str) -> None:
    room.b.changes.update(changes)
    assert any(sentence in line for line in room.json()["rollout"]), room.json()["rollout"]
    assert sentence in room.run().stdout


def test_another_key_must_be_trusted_first(room: Room) -> None:
    room.b.key = Ed25519PrivateKey.generate()
    found = room.json()
    assert found["rollout"][0].startswith("B is signed by another key")
    assert "a board accepts B whatever its version" in found["rollout"][1]
    assert found["a"]["key_id"] != found["b"]["key_id"]


def test_lost_and_new_columns_are_named(room: Room, files: dict[str, bytes]) -> None:
    labels = ("right_heart_strain", "LVH", "AFIB")
    outputs = [
        {"label": label, "column": f"p_{label}", "primary": k == 0, "description": label}
        for k, label in enumerate(labels)
    ]
    values = {"calibrations": {name: {"slope": 1.0, "intercept": 0.0} for name in labels}}
    room.b.changes |= {"outputs": outputs, "decision": rule(**values, thresholds=dict.fromkeys(labels, 0.5))}
    found = room.json()
    assert "Tables lose the columns p_NORM." in found["rollout"]
    assert "Tables gain the columns p_AFIB." in found["rollout"]
    assert set(found["golden"]["max_dp"]) == {"right_heart_strain", "LVH"}


def other_model(scale: float = 1.5) -> dict[str, bytes]:
    """Model and golden outputs with larger weights."""
    weights = replace(bundles.make_weights(), logits=bundles.make_weights().logits * np.float32(scale))
    tiny = bundles.tflite_model(
        weights, output_names=("logits", "uncertainty"), signature=True, n_labels=len(bundles.LABELS)
    )
    return {"model.tflite": tiny, "golden.npz": bundles.npz_bytes(bundles.golden_arrays(weights))}


def _outcome(p: float) -> str:
    """The builder's rule: threshold 0.5, abstain from 0.45."""
    return "DETECTED" if p >= 0.5 else "ABSTAIN" if p >= 0.45 else "NOT DETECTED"


def test_both_models_answer_to_the_golden_recordings_of_a(room: Room, files: dict[str, bytes]) -> None:
    room.b.files |= other_model()
    found = room.json()["golden"]
    ecg = bundles.golden_arrays(bundles.make_weights())["ecg"].reshape(4, -1)
    bias, weights = bundles.make_weights().logits_bias, bundles.make_weights().logits
    p_a, p_b = (1 / (1 + np.exp(-(ecg @ (weights * np.float32(s)).T + bias))) for s in (1.0, 1.5))
    assert (found["compared"], found["recordings"]) == (True, 4)
    assert [found["max_dp"][n] for n in bundles.LABELS] == pytest.approx(np.abs(p_a - p_b).max(axis=0), abs=1e-4)
    assert [found["crossed"][n] for n in bundles.LABELS] == ((p_a >= 0.5) != (p_b >= 0.5)).sum(axis=0).tolist()
    outcomes = [[_outcome(p) for p in one[:, 0]] for one in (p_a, p_b)]
    expected = [(k, x, y) for k, (x, y) in enumerate(zip(*outcomes, strict=True)) if x != y]
    assert [(one["recording"], one["a"], one["b"]) for one in found["outcomes"]] == expected


def test_an_outcome_that_changes_is_shown(room: Room) -> None:
    room.b.changes["decision"] = rule(thresholds=dict.fromkeys(bundles.LABELS, 0.999), abstain_band=[0.999, 0.999])
    found = room.json()
    assert found["golden"]["outcomes"]
    assert {one["b"] for one in found["golden"]["outcomes"]} == {"NOT DETECTED"}
    assert any(line.startswith(f"{len(found['golden']['outcomes'])} of A's 4 golden") for line in found["rollout"])
    assert "-> NOT DETECTED (p " in room.run().stdout


def test_a_bundle_that_fails_its_self_test_is_said_first(room: Room) -> None:
    room.b.changes["frontend"] = {**FRONTEND.to_dict(), "coeff_sha256": FRONTEND.sha256()}
    room.b.files["golden.npz"] = other_model()["golden.npz"]
    found = room.json()
    assert found["rollout"][0].startswith("B FAILS its self-test on this machine")
    assert found["golden"]["failed"] == ["b"]
    assert found["golden"]["compared"] is False
    assert "FAILED" in room.run().stdout


def test_models_with_different_inputs_are_not_compared(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.b.changes["input"] = {
        "leads": ["I", "III"], "fs_hz": 260.0, "n_samples": 2500, "unit": "mV", "shape": [1, 2, 2500], "dtype": "float32",
        "name": "ecg",
    }  # fmt: skip
    found = room.json()
    assert "B needs leads I, III; A needs I, II." in found["rollout"]
    assert found["golden"]["reason"].startswith("the models take different inputs: A I, II, 2500 samples at 260 Hz")


def test_without_a_runtime_everything_else_is_still_compared(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise RuntimeMissingError("No runtime is installed.", advice="Install one.")

    monkeypatch.setattr("lsemvae.screen.runtime.load.load_runtime", missing)
    room.b.changes["licence"] = "MIT"
    found = room.json()
    assert found["golden"]["reason"].startswith("A not tested: No runtime is installed.")
    assert found["golden"]["failed"] == []
    assert "licence" in room.changes()


def _flip(folder: Path) -> None:
    content = bytearray((folder / "model.tflite").read_bytes())
    content[-1] ^= 1
    (folder / "model.tflite").write_bytes(content)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "tampered": (_flip, "E_BUNDLE_HASH"),
    "unsigned": (lambda folder: (folder / "manifest.sig").unlink(), "E_BUNDLE_PATH"),
    "another signature": (lambda folder: (folder / "manifest.sig").write_bytes(bytes(64)), "E_BUNDLE_SIGNATURE"),
    "no bundle": (lambda folder: folder.rename(folder.with_name("gone")), "E_BUNDLE"),
}


@pytest.mark.promise(120)
@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("side", ["a", "b"])
def test_both_bundles_are_verified_before_anything_is_compared(
    room: Room, what: str, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lsemvae.screen.diff.compare, "diff_bundles", lambda *_: pytest.fail("compared"))
    a, b = room.write()
    breaks, code = BROKEN[what]
    breaks({"a": a, "b": b}[side])
    done = RUN.invoke(app, ["diff", str(a), str(b), "--trust", str(room.trust), "--json", "--exit-code"])
    assert done.exit_code == 4
    error = json.loads(done.stdout)["error"]
    assert error["code"] == code
    assert error["message"].startswith(f"{side.upper()} ({side}): ")


def test_a_stranger_s_bundle_is_refused(room: Room, tmp_path: Path) -> None:
    a, b = room.write()
    done = RUN.invoke(app, ["diff", str(a), str(b)])
    assert done.exit_code == 4
    assert "E_BUNDLE_SIGNATURE" in done.stderr


def test_show_and_verify_are_those_of_the_clinic(tmp_path: Path) -> None:
    for words in (["show"], ["show", "--json"], ["verify", "--data-dir", str(tmp_path)]):
        ours, clinic = RUN.invoke(app, words), RUN.invoke(lsemvae.terminal.bundle_view.app, words)
        assert (ours.exit_code, ours.stdout) == (0, clinic.stdout)
    assert RUN.invoke(app, ["show", str(tmp_path)]).exit_code == 4


def test_wrong_usage_is_exit_code_2() -> None:
    assert RUN.invoke(app, ["diff"]).exit_code == 2
    assert RUN.invoke(app, ["diff", "one"]).exit_code == 2


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; import lsemvae.commands.bundle; "
        "print([m for m in ('numpy', 'torch', 'cryptography', 'ai_edge_litert', 'export') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "none"), (True, "yes"), (12345, "12,345"), (0.123456789, "0.12346"), ("ab" * 32, "abababababab..."),
        ([0.9, 0.85, 0.95], "0.900 (0.850-0.950)"), (["I", "II"], "[I, II]"), ({"n": 3}, "n 3"), ({}, "empty"),
    ],
)  # fmt: skip
def test_values_are_shown_in_few_words(value: Any, shown: str) -> None:
    assert show(value) == shown
