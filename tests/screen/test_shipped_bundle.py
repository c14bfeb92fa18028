"""The bundle that ships: it opens with the shipped key, passes its self-test on both runtimes, and notices a broken kernel."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lsemvae.ecg.errors import BundleSelfTestError
from lsemvae.screen.bundle import Bundle, open_bundle
from lsemvae.screen.runtime.contract import Runtime, RuntimeOutput
from lsemvae.screen.runtime.load import load_runtime
from lsemvae.screen.selftest import self_test
from lsemvae.screen.trust import load_trusted_keys


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(None, trusted_keys=load_trusted_keys())


class _Changed:
    """A runtime whose outputs are changed on the way."""

    def __init__(self, inner: Runtime, **changes: object) -> None:
        self.name, self.version = inner.name, inner.version
        self._inner, self._changes = inner, changes

    def run(self, ecg: np.ndarray) -> RuntimeOutput:
        output = self._inner.run(ecg)
        return dataclasses.replace(
            output, **{name: change(getattr(output, name)) for name, change in self._changes.items()}
        )  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_passes_its_self_test_on_both_runtimes(bundle: Bundle, kind: str) -> None:
    result = self_test(bundle, load_runtime(bundle, prefer=kind))  # type: ignore[arg-type]
    assert result.max_logit_error < result.logit_tolerance
    assert result.max_uncertainty_error < 0.01


@pytest.mark.promise(93)
def test_defect_a_dead_uncertainty_does_not_pass(bundle: Bundle) -> None:
    runtime = load_runtime(bundle)
    middle = float(np.mean([runtime.run(np.zeros((1, 2, 2500), np.float32)).uncertainty]))
    with pytest.raises(BundleSelfTestError, match="uncertainty"):
        self_test(bundle, _Changed(runtime, uncertainty=lambda _: middle))


def test_a_shifted_logit_does_not_pass(bundle: Bundle) -> None:
    with pytest.raises(BundleSelfTestError, match="logits"):
        self_test(bundle, _Changed(load_runtime(bundle), logits=lambda x: x + 0.5))


def test_says_what_its_labels_are(bundle: Bundle) -> None:
    assert "not pulmonary hypertension" in bundle.manifest.label_statement
    assert bundle.manifest.provenance["folds_left_out"] == []
    assert [output.label for output in bundle.manifest.outputs if output.primary] == ["RHS"]
