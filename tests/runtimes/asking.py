"""Asking every runtime the same: the shipped files, and files with a wrong scale, on the same recordings."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.gates.outputs import Outputs, run_all
from lsemvae.screen.runtime.contract import Signature
from lsemvae.screen.runtime.load import load_model
from lsemvae.screen.runtime.tflite import Kernels
from tests.runtimes import matrix
from tests.runtimes.programs import HERE, WEB, chromium, legacy_python, node, npm_packages
from tests.runtimes.recordings import Questions
from tests.runtimes.serve import serving

ANSWER_TIMEOUT_S: Final = 120.0
_IN_THE_BROWSER: Final = {
    "litert": matrix.LITERT_JS,
    "litert_compat": matrix.LITERT_JS_COMPAT,
    "onnx": matrix.ORT_WEB,
}
_KERNELS: Final[dict[str, Kernels]] = {
    matrix.REFERENCE: "xnnpack",
    matrix.BUILTIN: "builtin",
    matrix.PLAIN: "reference",
}


@dataclass(frozen=True, slots=True)
class Variant:
    """A pair of model files of one meaning, and on how many recordings, from the first, they are run."""

    name: str
    tflite: bytes
    onnx: bytes
    count: int

    @property
    def contents(self) -> dict[str, bytes]:
        """File name to content."""
        return {f"{self.name}.tflite": self.tflite, f"{self.name}.onnx": self.onnx}


@dataclass(frozen=True, slots=True)
class Answers:
    """Outputs by runtime and variant, and the version that each runtime gave itself."""

    outputs: Mapping[str, Mapping[str, Outputs]]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BrowserRun:
    """What came back from the browser beside the answers: hashes of the bytes it ran, and requests to elsewhere."""

    answers: Answers
    sha256: Mapping[str, str]
    ecg_sha256: str
    relaxed_simd: bool
    foreign: tuple[str, ...]


def ask_python(variants: Sequence[Variant], questions: Questions) -> Answers:
    """Ask ai-edge-litert with each of its three sets of kernels, and onnxruntime."""
    import ai_edge_litert
    import onnxruntime

    signature = Signature((1, *questions.ecg.shape[1:]), (1, questions.n_outputs))
    outputs: dict[str, dict[str, Outputs]] = {
        name: {
            v.name: run_all(load_model(v.tflite, "tflite", signature, kernels=kernels).run, questions.ecg[: v.count])
            for v in variants
        }
        for name, kernels in _KERNELS.items()
    }
    outputs[matrix.ORT] = {
        v.name: run_all(load_model(v.onnx, "onnx", signature).run, questions.ecg[: v.count]) for v in variants
    }
    versions = dict.fromkeys(_KERNELS, str(ai_edge_litert.__version__)) | {matrix.ORT: str(onnxruntime.__version__)}
    return Answers(outputs, versions)


def ask_legacy(variants: Sequence[Variant], questions: Questions, *, folder: Path) -> Answers:
    """Ask tflite-runtime, a process in an environment of its own; `folder` is empty and holds the files."""
    np.save(folder / "ecg.npy", questions.ecg)
    for variant in variants:
        (folder / f"{variant.name}.tflite").write_bytes(variant.tflite)
    job = {f"{variant.name}.tflite": variant.count for variant in variants}
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    # -I: neither the caller's PYTHONPATH nor the script's folder may lend it a package.
    _checked([str(legacy_python()), "-I", str(HERE / "legacy_runner.py"), str(folder)])
    with np.load(folder / "answers.npz", allow_pickle=False) as archive:
        outputs = {variant.name: _outputs(archive[f"{variant.name}.tflite"]) for variant in variants}
        runtime, numpy = map(str, archive["versions"])
    return Answers({matrix.LEGACY: outputs}, {matrix.LEGACY: f"{runtime}, numpy {numpy}"})


def ask_browser(variants: Sequence[Variant], questions: Questions, *, folder: Path) -> BrowserRun:
    """Ask LiteRT.js and onnxruntime-web in a headless browser; `folder` is empty and holds its profile."""
    programs = [str(node()), str(WEB / "driver.mjs")]
    packages, out = npm_packages(), folder / "answer.json"
    with serving(_site(variants, questions), packages=packages) as origin:
        _checked([*programs, origin, str(packages), str(chromium()), str(folder / "profile"), str(out)])
    return _browser_run(json.loads(out.read_text(encoding="utf-8")), packages)


def _site(variants: Sequence[Variant], questions: Questions) -> dict[str, bytes]:
    """Return everything that the browser may load beside the packages."""
    models = [
        {"runtime": runtime, "variant": v.name, "url": f"/models/{v.name}.{suffix}", "count": v.count}
        for runtime, suffix in (("litert", "tflite"), ("litert_compat", "tflite"), ("onnx", "onnx"))
        for v in variants
    ]
    job = {"ecg": "/ecg.f32", "shape": [1, *questions.ecg.shape[1:]], "models": models}
    files = {f"/models/{name}": content for v in variants for name, content in v.contents.items()}
    pages = {f"/{name}": (WEB / name).read_bytes() for name in ("page.html", "page.mjs")}
    ecg = np.ascontiguousarray(questions.ecg, dtype="<f4").tobytes()
    return files | pages | {"/ecg.f32": ecg, "/job.json": json.dumps(job).encode()}


def _browser_run(found: dict[str, Any], packages: Path) -> BrowserRun:
    outputs: dict[str, dict[str, Outputs]] = {name: {} for name in _IN_THE_BROWSER.values()}
    for one in found["answers"]:
        outputs[_IN_THE_BROWSER[one["runtime"]]][one["variant"]] = _outputs(np.array(one["rows"], np.float32))
    litert = json.loads((packages / "node_modules/@litertjs/core/package.json").read_text(encoding="utf-8"))["version"]
    browser = f"Chromium {found['browser']}"
    versions = dict.fromkeys((matrix.LITERT_JS, matrix.LITERT_JS_COMPAT), f"{litert}, {browser}")
    return BrowserRun(
        answers=Answers(outputs, versions | {matrix.ORT_WEB: f"{found['ort']}, {browser}"}),
        sha256={f"{one['runtime']} {one['url'].rsplit('/', 1)[1]}": one["sha256"] for one in found["answers"]},
        ecg_sha256=found["ecg_sha256"],
        relaxed_simd=found["relaxed_simd"],
        foreign=tuple(found["foreign"]),
    )


def _outputs(rows: np.ndarray) -> Outputs:
    """Split `[recording, K + 1]` into logits and uncertainty."""
    return Outputs(rows[:, :-1].astype(np.float32), rows[:, -1:].astype(np.float32))


def sha256(content: bytes) -> str:
    """Return the hash as lower-case hex."""
    return hashlib.sha256(content).hexdigest()


def _checked(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ANSWER_TIMEOUT_S)
    assert done.returncode == 0, f"{Path(command[1]).name} ended with {done.returncode}: {done.stderr[-2000:]}"
