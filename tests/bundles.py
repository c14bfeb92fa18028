"""A small signed bundle with a real model in both formats, a clean recording, and models that answer as told."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lsemvae.ecg import FrontendSpec, frontend
from lsemvae.ecg.canonical import canonical_json
from lsemvae.ecg.record import EcgRecord, record_from_physical
from lsemvae.ecg.rule import Calibration, DecisionRule
from lsemvae.ecg.thresholds import QualityThresholds
from lsemvae.screen.bundle import Bundle, open_bundle
from lsemvae.screen.manifest import SCHEMA, key_id, signed_bytes
from lsemvae.screen.runtime.contract import RuntimeOutput
from lsemvae.screen.runtime.tflite import TfliteRuntime
from lsemvae.screen.screener import Screener

LABELS = ("right_heart_strain", "LVH", "NORM")
N_LEADS, N_SAMPLES = 2, 2500
HOST = "0.1.0"
# Nothing here equals a default of the code: who ignores what the bundle says is noticed (tests/screen/test_contract.py).
SPEC = FrontendSpec(
    name="tiny",
    fs_hz=260.0,
    n_samples=N_SAMPLES,
    pass_low_hz=0.6,
    pass_high_hz=38.0,
    stop_high_hz=52.0,
    attenuation_db=42.0,
    resample_db=70.0,
    clip_mv=4.0,
    edges="odd",
)
QUALITY = QualityThresholds(
    min_duration_s=9.95,
    max_flat_fraction=0.08,
    max_saturated_fraction=0.008,
    max_noise_mv=0.05,
    max_baseline_mv=1.5,
    max_einthoven_mv=0.04,
    min_rms_mv=0.04,
    max_rms_mv=0.4,
    min_beat_contrast=2.8,
)
RULE = DecisionRule(
    primary=LABELS[0],
    calibrations={
        LABELS[0]: Calibration(0.8, 0.4),
        LABELS[1]: Calibration(1.5, -0.3),
        LABELS[2]: Calibration(0.6, 0.2),
    },
    thresholds={LABELS[0]: 0.52, LABELS[1]: 0.6, LABELS[2]: 0.7},
    abstain_band=(0.45, 0.52),
    max_uncertainty=0.25,
    interval_logit_sd=0.4,
)


@dataclass(frozen=True)
class Weights:
    """A linear model: logits and uncertainty from the flattened input."""

    logits: np.ndarray
    logits_bias: np.ndarray
    uncertainty: np.ndarray
    uncertainty_bias: np.ndarray


def make_weights() -> Weights:
    rng = np.random.default_rng(7)
    size = N_LEADS * N_SAMPLES
    return Weights(
        logits=rng.normal(scale=0.01, size=(len(LABELS), size)).astype(np.float32),
        logits_bias=np.array([0.3, -0.2, 0.1], dtype=np.float32),
        uncertainty=np.zeros((1, size), dtype=np.float32),
        uncertainty_bias=np.array([-1.5], dtype=np.float32),
    )


def tflite_model(weights: Weights, *, output_names: tuple[str, str], signature: bool, n_labels: int) -> bytes:
    """Build a .tflite of two FULLY_CONNECTED operators; the uncertainty stands first in the file, on purpose."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str, shape: list[int], buffer: int) -> Any:
        item = schema.TensorT()
        item.name, item.shape, item.buffer, item.type = name.encode(), shape, buffer, schema.TensorType.FLOAT32
        return item

    def buffer(array: np.ndarray | None) -> Any:
        item = schema.BufferT()
        if array is not None:
            item.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), dtype=np.uint8)
        return item

    def dense(inputs: list[int], output: int) -> Any:
        item = schema.OperatorT()
        item.opcodeIndex, item.inputs, item.outputs = 0, inputs, [output]
        item.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        item.builtinOptions = schema.FullyConnectedOptionsT()
        return item

    size = N_LEADS * N_SAMPLES
    logits_name, uncertainty_name = output_names
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("ecg", [1, N_LEADS, N_SAMPLES], 1),
        tensor("w_logits", [n_labels, size], 2),
        tensor("b_logits", [n_labels], 3),
        tensor("w_unc", [1, size], 4),
        tensor("b_unc", [1], 5),
        tensor(logits_name, [1, n_labels], 6),
        tensor(uncertainty_name, [1, 1], 7),
    ]
    graph.inputs, graph.outputs = [0], [6, 5]
    graph.operators = [dense([0, 1, 2], 5), dense([0, 3, 4], 6)]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    arrays = (weights.logits[:n_labels], weights.logits_bias[:n_labels], weights.uncertainty, weights.uncertainty_bias)
    model.buffers = [buffer(None), buffer(None), *(buffer(array) for array in arrays), buffer(None), buffer(None)]
    if signature:
        model.signatureDefs = [_signature(schema, {"ecg": 0}, {logits_name: 5, uncertainty_name: 6})]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _signature(schema: Any, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
    def maps(names: Mapping[str, int]) -> list[Any]:
        items = []
        for name, index in names.items():
            item = schema.TensorMapT()
            item.name, item.tensorIndex = name.encode(), index
            items.append(item)
        return items

    definition = schema.SignatureDefT()
    definition.signatureKey, definition.subgraphIndex = b"serving_default", 0
    definition.inputs, definition.outputs = maps(inputs), maps(outputs)
    return definition


def onnx_model(weights: Weights) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    size = N_LEADS * N_SAMPLES
    arrays = {
        "w_logits": weights.logits.T, "b_logits": weights.logits_bias,
        "w_unc": weights.uncertainty.T, "b_unc": weights.uncertainty_bias,
    }  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["ecg"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "w_logits", "b_logits"], ["logits"]),
            helper.make_node("Gemm", ["flat", "w_unc", "b_unc"], ["uncertainty"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("ecg", TensorProto.FLOAT, [1, N_LEADS, N_SAMPLES])],
        [
            helper.make_tensor_value_info("uncertainty", TensorProto.FLOAT, [1, 1]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(LABELS)]),
        ],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()],
    )
    assert size == weights.logits.shape[1]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def synthetic_mv(*, fs_hz: float, seconds: float, amplitude: float = 1.0) -> np.ndarray:
    """Leads I and II of a heart at 72 beats a minute, `[2, time]` in mV: Gaussian waves and a little noise."""
    t_s = np.arange(round(fs_hz * seconds)) / fs_hz
    phase_s = (t_s + 0.3) % (60 / 72)
    waves = ((0.12, 0.16, 0.022), (-0.08, 0.262, 0.008), (1.0, 0.285, 0.011), (-0.2, 0.31, 0.009), (0.28, 0.54, 0.045))
    beat = sum(height * np.exp(-0.5 * ((phase_s - centre) / width) ** 2) for height, centre, width in waves)
    noise = np.random.default_rng(3).normal(scale=0.004, size=(2, t_s.size))
    return amplitude * np.stack([0.6 * beat, beat]) + noise


def golden_arrays(weights: Weights, rows: int = 4) -> dict[str, np.ndarray]:
    raw_mv = np.random.default_rng(1).normal(scale=0.1, size=(6, 5200)).astype(np.float32)
    ecg = np.stack(
        [
            frontend.apply_array(synthetic_mv(fs_hz=500, seconds=10.5, amplitude=0.5 + 0.2 * k), fs_hz=500, spec=SPEC)
            for k in range(rows)
        ]
    )
    flat = ecg.reshape(rows, -1)
    return {
        "ecg": ecg.astype(np.float32),
        "logits": (flat @ weights.logits.T + weights.logits_bias).astype(np.float32),
        "uncertainty": (flat @ weights.uncertainty.T + weights.uncertainty_bias).astype(np.float32),
        "raw_mv": raw_mv,
        "raw_fs_hz": np.float64(500.0),
        "frontend_out": frontend.apply_array(raw_mv, fs_hz=500, spec=SPEC),
    }


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


@dataclass
class BundleBuilder:
    """Writes a bundle; every part can be replaced before it is signed."""

    key: Ed25519PrivateKey
    weights: Weights
    files: dict[str, bytes]
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    def manifest(self, files: Mapping[str, bytes]) -> dict[str, Any]:
        outputs = [
            {"label": label, "column": f"p_{label}", "primary": label == LABELS[0], "description": f"{label} pattern"}
            for label in LABELS
        ]
        values = {
            "schema": SCHEMA, "id": "test-model", "version": "1.2.0", "created_utc": "2026-01-31T12:00:00Z",
            "min_host": "0.1.0", "intended_use": "Tests.", "not_for": ["People"], "licence": "CC0-1.0",
            "label_statement": "Statements made by ECG readers, not pulmonary hypertension.",
            "files": {n: {"sha256": hashlib.sha256(c).hexdigest(), "bytes": len(c)} for n, c in files.items()},
            "input": {"leads": ["I", "II"], "fs_hz": SPEC.fs_hz, "n_samples": N_SAMPLES, "unit": "mV",
                      "shape": [1, N_LEADS, N_SAMPLES], "dtype": "float32", "name": "ecg"},
            "frontend": {**SPEC.to_dict(), "coeff_sha256": SPEC.sha256()},
            "quality": QUALITY.to_dict(),
            "outputs": outputs,
            "models": {kind: f"model.{kind}" for kind in ("tflite", "onnx") if f"model.{kind}" in files},
            "decision": RULE.to_dict(),
            "performance": [], "parity": {"golden_tolerance": 0.03}, "provenance": {},
            "signature": {"alg": "ed25519", "key_id": key_id(self.public_key)},
        }  # fmt: skip
        return {**values, **self.changes}

    def signed(self) -> dict[str, bytes]:
        """Return all files of the bundle."""
        return self.sign(canonical_json(self.manifest(self.files)))

    def sign(self, manifest: bytes) -> dict[str, bytes]:
        return {**self.files, "manifest.json": manifest, "manifest.sig": self.key.sign(signed_bytes(manifest))}

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.signed().items():
            (folder / name).write_bytes(content)
        return folder

    def open(self, folder: Path, **options: Any) -> Bundle:
        return open_bundle(self.write(folder), trusted_keys=[self.public_key], host=HOST, **options)


@pytest.fixture(scope="session")
def tiny_weights() -> Weights:
    return make_weights()


@pytest.fixture(scope="session")
def make_tflite(tiny_weights: Weights) -> Callable[..., bytes]:
    """Build variants of the tiny model."""

    def build(
        output_names: tuple[str, str] = ("logits", "uncertainty"),
        *,
        signature: bool = True,
        n_labels: int = len(LABELS),
    ) -> bytes:
        return tflite_model(tiny_weights, output_names=output_names, signature=signature, n_labels=n_labels)

    return build


@pytest.fixture(scope="session")
def _parts(tiny_weights: Weights, make_tflite: Callable[..., bytes]) -> dict[str, bytes]:
    return {
        "model.tflite": make_tflite(),
        "model.onnx": onnx_model(tiny_weights),
        "golden.npz": npz_bytes(golden_arrays(tiny_weights)),
        "card.md": b"Statements made by ECG readers, not pulmonary hypertension.\n",
        "recipe.json": b"{}",
    }


@pytest.fixture(scope="session")
def signing_key() -> Ed25519PrivateKey:
    """A key that exists for this run only."""
    return Ed25519PrivateKey.generate()


@pytest.fixture
def builder(_parts: dict[str, bytes], tiny_weights: Weights, signing_key: Ed25519PrivateKey) -> BundleBuilder:
    return BundleBuilder(key=signing_key, weights=tiny_weights, files=dict(_parts))


@pytest.fixture
def bundle_dir(builder: BundleBuilder, tmp_path: Path) -> Path:
    return builder.write(tmp_path / "bundle")


@pytest.fixture
def bundle(builder: BundleBuilder, tmp_path: Path) -> Bundle:
    return builder.open(tmp_path / "bundle")


@pytest.fixture
def trust_dir(builder: BundleBuilder, tmp_path: Path) -> Path:
    """A folder with the public key, as the command line takes it."""
    folder = tmp_path / "trust"
    folder.mkdir()
    (folder / "test.pub").write_text(builder.public_key.hex() + "\n", encoding="ascii")
    return folder


@dataclass
class FakeRuntime:
    """Answers with chosen logits, counts its calls, keeps what it was shown."""

    logits: tuple[float, ...] = (2.0, 0.0, 0.0)
    uncertainty: float = -1.0
    error: Exception | None = None
    name: str = "fake"
    version: str = "1"
    calls: int = 0
    seen: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def run(self, ecg: np.ndarray) -> RuntimeOutput:
        self.calls += 1
        if self.error is not None:
            raise self.error
        assert ecg.dtype == np.float32
        self.seen = ecg
        return RuntimeOutput(logits=np.array(self.logits, dtype=np.float32), uncertainty=self.uncertainty)


@pytest.fixture
def fake_runtime() -> Callable[..., FakeRuntime]:
    return FakeRuntime


@pytest.fixture
def screener_with(bundle: Bundle) -> Callable[..., Screener]:
    """A screener whose model answers as told."""

    def build(**answers: Any) -> Screener:
        return Screener(bundle, FakeRuntime(**answers))

    return build


@pytest.fixture
def tflite_screener(bundle: Bundle) -> Screener:
    from lsemvae.screen.runtime.load import signature_of

    return Screener(bundle, TfliteRuntime(bundle.files["model.tflite"], signature_of(bundle)))


@pytest.fixture
def make_record() -> Callable[..., EcgRecord]:
    """A clean recording of leads I and II; fields and length as told."""

    def build(*, seconds: float = 12.0, fs_hz: float = 500.0, amplitude: float = 1.0, **fields: Any) -> EcgRecord:
        signal_mv = synthetic_mv(fs_hz=fs_hz, seconds=seconds, amplitude=amplitude)
        return record_from_physical(signal_mv, unit="mV", fs_hz=fs_hz, leads=("I", "II"), **fields)

    return build


@pytest.fixture
def clean_csv(tmp_path: Path) -> Path:
    """The clean recording as text that states unit and rate."""
    path = tmp_path / "clean.csv"
    rows = "\n".join(",".join(f"{value:.5f}" for value in row) for row in synthetic_mv(fs_hz=500, seconds=12).T)
    path.write_text(f"# fs_hz=500\n# unit=mV\nI,II\n{rows}\n", encoding="ascii")
    return path
