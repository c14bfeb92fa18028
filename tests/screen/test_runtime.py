"""Both runtimes compute the same small model from bytes, and refuse one that is not what the manifest promises."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsemvae.ecg.errors import BundleSelfTestError, InferenceError, RuntimeMissingError
from lsemvae.screen.bundle import Bundle
from lsemvae.screen.runtime.load import load_model, load_runtime, signature_of
from lsemvae.screen.runtime.tflite import KERNELS, TfliteRuntime
from lsemvae.screen.selftest import self_test


@pytest.mark.parametrize("prefer", ["tflite", "onnx"])
def test_a_runtime_computes_the_model(bundle: Bundle, tiny_weights: Any, prefer: Any) -> None:
    runtime = load_runtime(bundle, prefer=prefer)
    ecg = np.random.default_rng(0).normal(scale=0.2, size=(1, 2, 2500)).astype(np.float32)
    output = runtime.run(ecg)
    expected = ecg.reshape(-1) @ tiny_weights.logits.T + tiny_weights.logits_bias
    assert output.logits == pytest.approx(expected, abs=1e-4)
    assert output.uncertainty == pytest.approx(-1.5)
    assert output.logits.dtype == np.float32
    assert runtime.version


def test_tflite_is_preferred(bundle: Bundle) -> None:
    assert load_runtime(bundle).name == "ai_edge_litert"


def test_a_bundle_with_only_onnx_runs_on_onnxruntime(builder: Any, tmp_path: Path) -> None:
    del builder.files["model.tflite"]
    assert load_runtime(builder.open(tmp_path / "b")).name == "onnxruntime"


def _uninstall(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """As if the packages were not installed, for import and for whoever looks for them."""
    for name in (*packages, *(f"{package}.interpreter" for package in packages)):
        monkeypatch.setitem(sys.modules, name, None)


def test_where_only_onnxruntime_is_installed_a_bundle_of_both_formats_runs_on_it(
    bundle: Bundle, tiny_weights: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"tflite", "onnx"} <= set(bundle.manifest.models)
    _uninstall(monkeypatch, "ai_edge_litert", "tflite_runtime")
    runtime = load_runtime(bundle)
    assert runtime.name == "onnxruntime"
    assert self_test(bundle, runtime).max_logit_error < 1e-3
    with pytest.raises(RuntimeMissingError, match="ai_edge_litert"):
        load_runtime(bundle, prefer="tflite")  # what is asked for by name is never replaced


def test_where_no_runtime_is_installed_the_first_one_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    _uninstall(monkeypatch, "ai_edge_litert", "tflite_runtime", "onnxruntime")
    with pytest.raises(RuntimeMissingError, match="ai_edge_litert") as caught:
        load_runtime(bundle)
    assert "lsemvae[edge]" in caught.value.advice


def test_a_tflite_only_bundle_says_what_to_install_where_only_onnxruntime_is(
    builder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del builder.files["model.onnx"]
    _uninstall(monkeypatch, "ai_edge_litert", "tflite_runtime")
    with pytest.raises(RuntimeMissingError, match="ai_edge_litert"):
        load_runtime(builder.open(tmp_path / "b"))


@pytest.mark.parametrize("kernels", KERNELS)
def test_every_kernel_computes_the_model(
    bundle: Bundle, tiny_weights: Any, monkeypatch: pytest.MonkeyPatch, kernels: Any
) -> None:
    from ai_edge_litert import interpreter

    asked: list[Any] = []

    class Spied(interpreter.Interpreter):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            asked.append(kwargs.get("experimental_op_resolver_type"))
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(interpreter, "Interpreter", Spied)
    runtime = load_model(bundle.files["model.tflite"], "tflite", signature_of(bundle), kernels=kernels)
    ecg = np.random.default_rng(0).normal(scale=0.2, size=(1, 2, 2500)).astype(np.float32)
    assert runtime.run(ecg).logits == pytest.approx(
        ecg.reshape(-1) @ tiny_weights.logits.T + tiny_weights.logits_bias, abs=1e-4
    )
    resolver = interpreter.OpResolverType
    expected = {"builtin": resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES, "reference": resolver.BUILTIN_REF}
    assert asked == [expected.get(kernels)]


def test_a_format_that_the_bundle_lacks_is_refused(builder: Any, tmp_path: Path) -> None:
    del builder.files["model.onnx"]
    with pytest.raises(BundleSelfTestError, match="no onnx model; it has: tflite"):
        load_runtime(builder.open(tmp_path / "b"), prefer="onnx")


@pytest.mark.parametrize("signature", [True, False])
@pytest.mark.parametrize("names", [("logits", "uncertainty"), ("output_0", "output_1")])
def test_outputs_are_found_by_name_whatever_their_order(
    bundle: Bundle, make_tflite: Callable[..., bytes], names: tuple[str, str], signature: bool
) -> None:
    runtime = TfliteRuntime(make_tflite(names, signature=signature), signature_of(bundle))
    output = runtime.run(np.zeros((1, 2, 2500), dtype=np.float32))
    assert output.logits == pytest.approx([0.3, -0.2, 0.1])
    assert output.uncertainty == pytest.approx(-1.5)


def test_outputs_of_one_label_are_told_apart_by_name(bundle: Bundle, make_tflite: Callable[..., bytes]) -> None:
    signature = replace(signature_of(bundle), logits_shape=(1, 1))
    output = TfliteRuntime(make_tflite(n_labels=1), signature).run(np.zeros((1, 2, 2500), dtype=np.float32))
    assert (float(output.logits[0]), output.uncertainty) == pytest.approx((0.3, -1.5))


def test_another_number_of_labels_is_refused(bundle: Bundle, make_tflite: Callable[..., bytes]) -> None:
    with pytest.raises(BundleSelfTestError, match=r"\(1, 2\); the manifest promises \(1, 3\)"):
        TfliteRuntime(make_tflite(n_labels=2), signature_of(bundle))


@pytest.mark.parametrize("prefer", ["tflite", "onnx"])
def test_another_input_shape_is_refused(builder: Any, tmp_path: Path, prefer: Any) -> None:
    values = builder.manifest(builder.files)["input"]
    builder.changes["input"] = {**values, "leads": ["I", "II", "III"], "shape": [1, 3, 2500]}
    with pytest.raises(BundleSelfTestError, match=r"input has shape \(1, 2, 2500\)"):
        load_runtime(builder.open(tmp_path / "b"), prefer=prefer)


@pytest.mark.parametrize("prefer", ["tflite", "onnx"])
def test_bytes_that_are_no_model_are_refused(builder: Any, tmp_path: Path, prefer: Any) -> None:
    builder.files[f"model.{prefer}"] = b"not a model" * 100
    with pytest.raises(BundleSelfTestError, match="cannot be loaded"):
        load_runtime(builder.open(tmp_path / "b"), prefer=prefer)


@pytest.mark.parametrize("prefer", ["tflite", "onnx"])
@pytest.mark.parametrize(
    ("ecg", "match"),
    [
        (np.zeros((1, 2, 2499), dtype=np.float32), "expected float32"),
        (np.zeros((1, 2, 2500), dtype=np.float64), "expected float32"),
        (np.full((1, 2, 2500), np.nan, dtype=np.float32), "NaN"),
        (np.full((1, 2, 2500), np.inf, dtype=np.float32), "infinite"),
    ],
)
def test_an_input_that_the_model_was_not_made_for_is_refused(bundle: Bundle, prefer: Any, ecg: Any, match: str) -> None:
    with pytest.raises(InferenceError, match=match):
        load_runtime(bundle, prefer=prefer).run(ecg)


def _hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    import lsemvae.screen.runtime.tflite as module

    real_import, real_module = builtins.__import__, module.import_module

    def hidden_import(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] in modules:
            raise ModuleNotFoundError(name=name)
        return real_import(name, *args, **kwargs)

    def hidden_module(name: str) -> Any:
        if name.split(".")[0] in modules:
            raise ModuleNotFoundError(name=name)
        return real_module(name)

    monkeypatch.setattr(builtins, "__import__", hidden_import)
    monkeypatch.setattr(module, "import_module", hidden_module)


@pytest.mark.parametrize(
    ("prefer", "hidden", "install"),
    [
        ("tflite", ("ai_edge_litert", "tflite_runtime"), r"lsemvae\[edge\]"),
        ("onnx", ("onnxruntime",), r"lsemvae\[edge-onnx\]"),
    ],
)
def test_a_missing_runtime_names_what_installs_it(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, prefer: Any, hidden: tuple[str, ...], install: str
) -> None:
    _hide(monkeypatch, *hidden)
    with pytest.raises(RuntimeMissingError) as caught:
        load_runtime(bundle, prefer=prefer)
    assert hidden[0] in str(caught.value)
    assert install.replace("\\", "") in caught.value.advice


def test_tflite_runtime_serves_where_litert_is_absent(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older package has the same interface; with numpy 2 it is refused before it can fail inside."""
    from ai_edge_litert import interpreter

    import lsemvae.screen.runtime.tflite as module

    class Older:
        Interpreter = interpreter.Interpreter
        __version__ = "2.14.0"

    def import_module(name: str) -> Any:
        if name.startswith("ai_edge_litert"):
            raise ModuleNotFoundError(name=name)
        return Older

    monkeypatch.setattr(module, "import_module", import_module)
    monkeypatch.setattr(module.np, "__version__", "2.4.6")
    with pytest.raises(RuntimeMissingError, match=r"numpy 2\.4\.6"):
        load_runtime(bundle)
    monkeypatch.setattr(module.np, "__version__", "1.26.4")
    runtime = load_runtime(bundle)
    assert (runtime.name, runtime.version) == ("tflite_runtime", "2.14.0")
    assert runtime.run(np.zeros((1, 2, 2500), dtype=np.float32)).uncertainty == pytest.approx(-1.5)


@pytest.mark.promise(10)
@pytest.mark.parametrize("prefer", ["tflite", "onnx"])
def test_the_self_test_passes_and_reports(bundle: Bundle, prefer: Any) -> None:
    report = self_test(bundle, load_runtime(bundle, prefer=prefer))
    assert report.recordings == 4
    assert report.max_logit_error < 1e-3
    assert report.max_frontend_error_mv <= 1e-6
    assert set(report.to_dict()) == {
        "recordings", "max_logit_error", "max_uncertainty_error", "logit_tolerance", "max_frontend_error_mv",
    }  # fmt: skip


@pytest.mark.promise(33)
@pytest.mark.parametrize(
    ("answers", "match"),
    [
        ({"logits": (9.0, 9.0, 9.0)}, "Golden logits"),
        ({"logits": (float("nan"),) * 3}, "Golden logits"),
        ({"logits": (0.0, 0.0)}, "shape"),
    ],
)
def test_the_self_test_refuses_other_answers(
    bundle: Bundle, fake_runtime: Callable[..., Any], answers: dict[str, Any], match: str
) -> None:
    with pytest.raises(BundleSelfTestError, match=match):
        self_test(bundle, fake_runtime(**answers))


def _rewrite_golden(builder: Any, **changes: Any) -> None:
    import io

    with np.load(io.BytesIO(builder.files["golden.npz"]), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    stream = io.BytesIO()
    np.savez(stream, **{name: array for name, array in arrays.items() if array is not None})
    builder.files["golden.npz"] = stream.getvalue()


@pytest.mark.promise(10)
@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"uncertainty": np.full((4, 1), 5.0, dtype=np.float32)}, "Golden uncertainty"),
        ({"frontend_out": np.zeros((6, 2500), dtype=np.float32)}, "Golden front-end"),
        ({"frontend_out": np.full((6, 2500), np.nan, dtype=np.float32)}, "Golden front-end"),
        ({"raw_mv": np.zeros((6, 20), dtype=np.float32)}, "through the front-end"),
        ({"ecg": np.zeros((0, 2, 2500), dtype=np.float32)}, "shape"),
        ({"ecg": np.zeros((4, 2, 2400), dtype=np.float32)}, "shape"),
        ({"logits": None}, "cannot be read"),
    ],
)
def test_a_golden_file_that_does_not_fit_is_refused(builder: Any, tmp_path: Path, changes: Any, match: str) -> None:
    _rewrite_golden(builder, **changes)
    bundle = builder.open(tmp_path / "b")
    with pytest.raises(BundleSelfTestError, match=match):
        self_test(bundle, load_runtime(bundle))


@pytest.mark.parametrize("tolerance", [None, 0, -1.0, "0.05"])
def test_a_bundle_without_a_sensible_tolerance_is_refused(builder: Any, tmp_path: Path, tolerance: Any) -> None:
    builder.changes["parity"] = {"golden_tolerance": tolerance}
    bundle = builder.open(tmp_path / "b")
    with pytest.raises(BundleSelfTestError, match="golden_tolerance"):
        self_test(bundle, load_runtime(bundle))


def test_a_bundle_without_golden_file_is_refused(builder: Any, tmp_path: Path) -> None:
    del builder.files["golden.npz"]
    bundle = builder.open(tmp_path / "b")
    with pytest.raises(BundleSelfTestError, match=r"no golden\.npz"):
        self_test(bundle, load_runtime(bundle))


def test_the_runtime_does_not_greet_the_operator(bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    """LiteRT writes an INFO line to descriptor 2 from native code when it makes an interpreter."""
    load_runtime(bundle, prefer="tflite")
    os.write(2, b"still there\n")
    assert capfd.readouterr().err == "still there\n"


def test_the_error_stream_is_given_back_when_a_model_cannot_be_loaded(
    bundle: Bundle, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        TfliteRuntime(b"no model at all", signature_of(bundle))
    capfd.readouterr()
    os.write(2, b"still there\n")
    assert capfd.readouterr().err == "still there\n"


def test_a_process_without_an_error_stream_loads_the_model(bundle_dir: Path, trust_dir: Path, tmp_path: Path) -> None:
    code = "import os; os.close(2); from edge_app.cli import main; main()"
    words = ["bundle", "verify", str(bundle_dir), "--trust", str(trust_dir), "--data-dir", str(tmp_path / "home")]
    found = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert "accepted" in found.stdout
