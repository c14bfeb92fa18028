"""One file, many runtimes, the same answer: every pair of the matrix on golden signals and on real recordings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from export.gates.outputs import Outputs
from lsemvae.screen.bundle import Bundle
from tests.runtimes import matrix
from tests.runtimes.asking import Answers, BrowserRun, Variant
from tests.runtimes.matrix import PAIRS, Difference, Pair, decided, difference
from tests.runtimes.programs import HERE, WEB
from tests.runtimes.recordings import Questions

pytestmark = pytest.mark.slow  # the whole file: what its tests share takes long to make

SHIPPED = "model"
NOTHING = Difference(0.0, 0.0, 0.0, 0.0)
OutputsOf = Callable[[str], Mapping[str, Outputs]]
each_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)


def rows(outputs: Outputs, part: slice) -> Outputs:
    return Outputs(outputs.logits[part], outputs.uncertainty[part])


def compare(pair: Pair, outputs_of: OutputsOf, bundle: Bundle, part: slice) -> set[str]:
    """Return the quantities beyond tolerance; both runtimes must give finite numbers and the same outcomes."""
    found = [rows(outputs_of(name)[SHIPPED], part) for name in (pair.candidate, pair.reference)]
    assert all(one.finite() for one in found)
    assert len(found[0].logits) == len(found[1].logits) > 0
    outcomes = [np.array(decided(one, manifest=bundle.manifest)) for one in found]
    assert (outcomes[0] == outcomes[1]).mean() >= pair.min_outcomes_equal
    return set(difference(*found, manifest=bundle.manifest).beyond(pair.tolerance(bundle.manifest)))


@pytest.mark.slow
@pytest.mark.promise(127)
@each_pair
def test_golden_signals(pair: Pair, outputs_of: OutputsOf, asked: Questions, bundle: Bundle) -> None:
    """A mean over eight signals is another figure than one over all recordings, so it has no tolerance here."""
    assert compare(pair, outputs_of, bundle, asked.golden) <= {"mean_dp"}


@pytest.mark.promise(127)
@pytest.mark.needs_data
@each_pair
def test_real_recordings(
    pair: Pair, outputs_of: OutputsOf, asked: Questions, bundle: Bundle, ecg_data_dir: Path
) -> None:
    assert compare(pair, outputs_of, bundle, asked.real) == set()


@pytest.mark.needs_data
def test_the_recordings_reach_where_runtimes_differ(
    asked: Questions, outputs_of: OutputsOf, bundle: Bundle, ecg_data_dir: Path
) -> None:
    """Low and tall complexes, clipped ones, and every outcome that a model can decide."""
    peak_mv = np.abs(asked.ecg[asked.real]).max(axis=(1, 2))
    assert peak_mv.min() < 0.5
    assert (peak_mv > 3.0).sum() >= 5
    assert peak_mv.max() == bundle.manifest.frontend.clip_mv
    outcomes = decided(outputs_of(matrix.REFERENCE)[SHIPPED], manifest=bundle.manifest)
    assert set(outcomes) == {"DETECTED", "NOT DETECTED", "ABSTAIN"}


def test_every_runtime_is_held_against_the_one_of_the_clinic() -> None:
    held = {pair.candidate for pair in PAIRS if pair.reference == matrix.REFERENCE}
    assert held == set(matrix.RUNTIMES) - {matrix.REFERENCE}


def wrong_scales(
    pair: Pair, outputs_of: OutputsOf, variants: list[Variant], bundle: Bundle, part: slice
) -> Iterator[tuple[str, set[str], Difference]]:
    """For each INT8 layer: the quantities that its wrong scale moves at all, and the difference that the pair shows."""
    candidate, reference = outputs_of(pair.candidate), outputs_of(pair.reference)
    assert len(variants) > 1
    for variant in variants[1:]:
        wrong, right = rows(candidate[variant.name], part), rows(candidate[SHIPPED], part)
        moved = set(difference(wrong, right, manifest=bundle.manifest).beyond(NOTHING))
        assert moved, f"{variant.name}: the wrong scale changes nothing"
        yield variant.name, moved, difference(wrong, rows(reference[SHIPPED], part), manifest=bundle.manifest)


@each_pair
def test_a_scale_that_is_ten_percent_off_is_noticed_on_golden_signals(
    pair: Pair, outputs_of: OutputsOf, variants: list[Variant], bundle: Bundle, asked: Questions
) -> None:
    """In every runtime and for every INT8 layer, on eight signals: some quantity is beyond its tolerance."""
    for name, _, found in wrong_scales(pair, outputs_of, variants, bundle, asked.golden):
        assert found.beyond(pair.tolerance(bundle.manifest)), f"{name}: {found}"


@pytest.mark.promise(127)
@pytest.mark.needs_data
@each_pair
def test_a_scale_that_is_ten_percent_off_is_beyond_every_tolerance(
    pair: Pair, outputs_of: OutputsOf, variants: list[Variant], bundle: Bundle, ecg_data_dir: Path
) -> None:
    """In every runtime and for every INT8 layer: each quantity that the wrong scale moves is beyond its tolerance."""
    for name, moved, found in wrong_scales(pair, outputs_of, variants, bundle, slice(0, variants[1].count)):
        assert set(found.beyond(pair.tolerance(bundle.manifest))) >= moved, f"{name}: {found}"


@pytest.mark.promise(127)
def test_the_browser_runs_the_very_files_of_the_bundle(
    browser_run: BrowserRun, bundle: Bundle, asked: Questions
) -> None:
    """The page hashes the bytes that it hands to the runtime."""
    manifest = bundle.manifest
    for runtime, name in (("litert", "tflite"), ("litert_compat", "tflite"), ("onnx", "onnx")):
        assert browser_run.sha256[f"{runtime} {SHIPPED}.{name}"] == manifest.files[f"model.{name}"].sha256
    assert browser_run.ecg_sha256 == hashlib.sha256(asked.ecg.astype("<f4").tobytes()).hexdigest()


def test_the_browser_asks_nobody_but_the_local_server(browser_run: BrowserRun) -> None:
    assert browser_run.foreign == ()


def test_both_builds_of_litert_js_are_run(browser_run: BrowserRun) -> None:
    """The first of them needs relaxed SIMD; a browser without it takes the second by itself."""
    assert browser_run.relaxed_simd
    both = [browser_run.answers.outputs[name][SHIPPED] for name in (matrix.LITERT_JS, matrix.LITERT_JS_COMPAT)]
    assert not np.array_equal(both[0].logits, both[1].logits), "found equal bits: expected two builds"


def test_versions_are_the_pinned_ones(legacy_answers: Answers, browser_run: BrowserRun) -> None:
    pinned = json.loads((WEB / "package.json").read_text(encoding="utf-8"))["dependencies"]
    versions = browser_run.answers.versions
    assert versions[matrix.LITERT_JS].startswith(f"{pinned['@litertjs/core']}, Chromium")
    assert versions[matrix.ORT_WEB].startswith(f"{pinned['onnxruntime-web']}, Chromium")
    assert legacy_answers.versions[matrix.LEGACY] == "2.14.0, numpy 1.26.4"


def test_the_lock_files_pin_content_and_name_no_host() -> None:
    packages = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    installed = {name: package for name, package in packages.items() if name}
    assert len(installed) >= 3
    assert all(package["integrity"].startswith("sha512-") for package in installed.values())
    locks = [WEB / "package-lock.json", HERE / "tflite_runtime.txt"]
    assert not [lock.name for lock in locks if "://" in lock.read_text(encoding="utf-8")]
    assert (HERE / "tflite_runtime.txt").read_text(encoding="utf-8").count("--hash=sha256:") >= 2
