"""The files of a bundle that a board needs, and whether the board computes what the bundle promises."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.benchmark.errors import BenchmarkError, BoardError
from lsemvae.ecg.errors import BundleHashError
from lsemvae.screen.manifest import MANIFEST_NAME, MAX_FILE_BYTES, Manifest

GOLDEN_NAME: Final = "golden.npz"
# As in the clinic's self-test: kernels agree on the uncertainty more closely than on logits.
UNCERTAINTY_TOLERANCE: Final = 0.05
_OTHER_OUTPUTS: Final = (
    "Do not use this board with this runtime: its kernels compute something else. Install the runtime's release that the "
    "bundle was made with, and report board, runtime and this message."
)


@dataclass(frozen=True, slots=True, eq=False)
class BoardFiles:
    """What is copied to a board.

    Attributes
    ----------
    logits, uncertainty
        The golden outputs, `[n, K]` and `[n, 1]`.
    tolerance
        Largest allowed difference of a logit, from the manifest.
    """

    model_name: str
    model: bytes
    golden: bytes
    logits: np.ndarray
    uncertainty: np.ndarray
    tolerance: float


def read_board_files(bundle: Path, model_name: str) -> BoardFiles:
    """Read a bundle, a folder or a zip: manifest, one model and the golden recordings, each with the hash in the manifest.

    Who signed it is not checked here: that is the caller's part, before any board is touched.
    """
    manifest = Manifest.from_bytes(_read(bundle, MANIFEST_NAME))
    if model_name not in manifest.models.values():
        raise BenchmarkError(f"found the models {', '.join(manifest.models.values())}, expected {model_name}")
    contents = {}
    for name in (model_name, GOLDEN_NAME):
        if name not in manifest.files:
            raise BenchmarkError(
                f"found the files {', '.join(manifest.files)} in the manifest, expected {name} among them"
            )
        contents[name], expected = _read(bundle, name), manifest.files[name].sha256
        if (digest := hashlib.sha256(contents[name]).hexdigest()) != expected:
            raise BundleHashError(f"{name}: found hash {digest[:16]}, expected {expected[:16]}")
    model, golden = contents[model_name], contents[GOLDEN_NAME]
    tolerance = manifest.parity.get("golden_tolerance")
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 < tolerance < np.inf:
        raise BenchmarkError(f"found golden_tolerance {tolerance!r}, expected a positive number")
    with np.load(io.BytesIO(golden), allow_pickle=False) as archive:
        logits, uncertainty = archive["logits"], archive["uncertainty"]
    return BoardFiles(model_name, model, golden, logits, uncertainty, float(tolerance))


def check_outputs(run: Mapping[str, Any], files: BoardFiles) -> tuple[float, float]:
    """Return the largest differences of logits and uncertainty from the golden ones, or raise where they are not allowed."""
    sent = hashlib.sha256(files.model).hexdigest()
    if run["model"]["sha256"] != sent:
        raise BoardError(f"the board ran a model with hash {run['model']['sha256'][:16]}, expected {sent[:16]}")
    limits = {"logits": files.tolerance, "uncertainty": min(files.tolerance, UNCERTAINTY_TOLERANCE)}
    found = {}
    for name, limit in limits.items():
        golden = getattr(files, name)
        try:
            said = np.array(run["outputs"][name], dtype=np.float64)
        except ValueError:  # rows of unequal length
            said = np.empty(0)
        if said.shape != golden.shape:
            raise BoardError(
                f"the board's {name} have shape {said.shape}, expected {golden.shape}", advice=_OTHER_OUTPUTS
            )
        found[name] = float(np.abs(said - golden).max())
        if not found[name] <= limit:
            raise BoardError(
                f"the board's {name} differ from the golden ones by {found[name]:.3g}, expected at most {limit:.3g}",
                advice=_OTHER_OUTPUTS,
            )
    return found["logits"], found["uncertainty"]


def _read(bundle: Path, name: str) -> bytes:
    try:
        if bundle.is_dir():
            content = _capped((bundle / name).open("rb"))
        else:
            with zipfile.ZipFile(bundle) as archive:
                content = _capped(archive.open(name))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise BenchmarkError(
            f"{bundle.name} has no readable {name} ({error}), expected a bundle, folder or zip"
        ) from error
    if len(content) > MAX_FILE_BYTES:
        raise BenchmarkError(f"{name}: found more than {MAX_FILE_BYTES} bytes, expected at most these")
    return content


def _capped(stream: Any) -> bytes:
    with stream:
        return bytes(stream.read(MAX_FILE_BYTES + 1))
