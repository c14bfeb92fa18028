"""The strict-integer variant for microcontrollers and NPUs: INT8 input, INT8 outputs, no float operator in between.

It is made from the same folded float graph as the other files and beside them: an extra file, not the one the clinic runs.
Its interface (scale and zero point of each tensor) lies beside it in `strict.json`, for the firmware that feeds it.

A product of experts has no INT8 form (it divides). Students mix their leads in the first convolution and hold one summary
posterior, so there is nothing to fuse; a float graph that divides or exponentiates is refused.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.convert import tflite_file
from export.convert.noise import noise_to
from export.errors import ExportCalibrationError, ExportError, ExportModelError
from export.gates.audit import AuditReport, require_clean
from export.gates.audit_tflite import audit_tflite
from export.int8.quantize_tflite import Ranges, collect_ranges, quantize_tflite, ranges_sha256
from export.int8.recipe import ALL, QuantRecipe
from export.strict.graph import Bounds, integer_ready
from export.strict.interface import QuantizedIo, strict_interface
from export.strict.selftest import self_test
from lsemvae.ecg.frontend import BASE, FrontendSpec
from lsemvae.formats.whole import write_whole

SCHEMA: Final = "lsemvae-strict/1"
STRICT_RECIPE: Final = "static_wi8_ai8_all"
MODEL_FILE: Final = "model.strict.tflite"
SPEC_FILE: Final = "strict.json"
STATEMENT: Final = (
    "Each output is what ECG readers stated about a recording, as learned by a network: no diagnosis, and none of them is "
    "pulmonary hypertension. The integers are logits; calibration and thresholds stand in the bundle's manifest."
)
ROUNDING: Final = (
    "for each lead, in double precision, from e = 0: v = mV / scale + e; q = rint(v); e = v - q, or 0 where q saturates; "
    "input = q + zero_point"
)


@dataclass(frozen=True, slots=True)
class Clamp:
    """A clamp of the float graph that the INT8 tensor makes by saturating: `stored` lies inside `bound`."""

    tensor: str
    bound: tuple[float, float]
    stored: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the clamp for JSON; an open side is None."""
        bound = [end if np.isfinite(end) else None for end in self.bound]
        return {"tensor": self.tensor, "bound": bound, "stored": list(self.stored)}


@dataclass(frozen=True, slots=True)
class StrictFiles:
    """The strict-integer file, its description for the firmware, and what the audit found in it."""

    model: Path
    spec: Path
    audit: AuditReport
    input: QuantizedIo
    outputs: tuple[QuantizedIo, ...]
    clamps: tuple[Clamp, ...]
    ranges_sha256: str


def export_strict(
    named: Path,
    ecg: np.ndarray,
    *,
    recipe: QuantRecipe,
    leads: Sequence[str],
    labels: Sequence[str],
    out: Path,
    log: Path,
    statement: str = STATEMENT,
    spec: FrontendSpec = BASE,
) -> StrictFiles:
    """Write `model.strict.tflite` and `strict.json` into the folder `out`.

    Parameters
    ----------
    named
        The float `.tflite` file as `export_tflite` leaves it, with its module paths as tensor names.
    ecg
        Calibration recordings through the run-time front-end, float32 `[n, lead, time]` mV.
    recipe
        A recipe of region `all`.
    leads, labels
        Names of the input's rows and of the logits, in their order.
    statement
        What the outputs are, for whoever reads `strict.json` without the bundle.
    spec
        The front-end of the recordings; the self-test's go through it too.

    Raises
    ------
    ExportError
        If the graph has no INT8 form, the recordings are too few, or the audit finds a float; nothing is written then.
    """
    if recipe.region != ALL:
        raise ExportError(
            f"recipe {recipe.name!r} quantizes {recipe.region!r}; expected {ALL!r}",
            advice=f"Use the recipe {STRICT_RECIPE}.",
        )
    if ecg.ndim != 3 or ecg.shape[1] != len(leads) or ecg.dtype != np.float32:
        raise ExportCalibrationError(f"found {ecg.dtype} {ecg.shape}; expected float32 (n, {len(leads)}, time)")
    if len(ecg) < recipe.min_calibration_records:
        raise ExportCalibrationError(
            f"found {len(ecg)} calibration recordings; expected at least {recipe.min_calibration_records}"
        )
    ready = integer_ready(named.read_bytes(), operators=recipe.tflite_ops)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "ready.tflite"
        source.write_bytes(ready.data)
        ranges = within(collect_ranges(source, ecg, recipe=recipe, log=log), ready.bounds)
        made = quantize_tflite(
            source, Path(folder) / "strict.tflite", recipe=recipe, ranges=ranges, log=log
        ).read_bytes()
    tensors = {tflite_file.tensor_name(t): t for t in tflite_file.parse(made).subgraphs[0].tensors}
    clamps = tuple(_clamp(tensors[name], bound) for name, bound in sorted(ready.bounds.items()))
    data = tflite_file.strip_names(made)
    report = require_clean(
        audit_tflite(data, int8=True, n_leads=len(leads), n_samples=ecg.shape[2], n_labels=len(labels), region=ALL)
    )
    with noise_to(log):
        ecg_io, outputs_io = strict_interface(data)
        expected = self_test(data, leads=leads, spec=spec)
    outputs = (outputs_io["logits"], outputs_io["uncertainty"])
    files = StrictFiles(out / MODEL_FILE, out / SPEC_FILE, report, ecg_io, outputs, clamps, ranges_sha256(ranges))
    content = spec_dict(
        files, data, recipe=recipe, leads=leads, labels=labels, n_calibration=len(ecg), statement=statement
    )
    content["self_test"] = expected
    write_whole(files.model, data)
    write_whole(files.spec, json.dumps(content, indent=1, sort_keys=True) + "\n")
    return files


def within(ranges: Ranges, bounds: Bounds) -> Ranges:
    """Return the ranges with those of clamped tensors cut to their bounds: there the INT8 tensor clamps by saturating."""
    missing = sorted(set(bounds) - set(ranges))
    if missing:
        raise ExportModelError(f"calibration saw no range of the clamped tensors {missing}; expected one for each")
    return {
        name: (np.maximum(low, bounds[name][0]), np.minimum(high, bounds[name][1])) if name in bounds else (low, high)
        for name, (low, high) in ranges.items()
    }


def _clamp(tensor: Any, bound: tuple[float, float]) -> Clamp:
    """Check that the stored range ends inside the bound; rounding the zero point may move an end by one step."""
    name = tflite_file.tensor_name(tensor)
    scale, zero_point = float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0])
    stored = QuantizedIo(name, (), scale, zero_point).real_range
    if stored[0] < bound[0] - scale or stored[1] > bound[1] + scale:
        raise ExportModelError(f"{name} is stored over {stored}; expected a range inside its clamp {bound}")
    return Clamp(name.rsplit("/", 1)[-1], bound, stored)


def spec_dict(
    files: StrictFiles,
    data: bytes,
    *,
    recipe: QuantRecipe,
    leads: Sequence[str],
    labels: Sequence[str],
    n_calibration: int,
    statement: str,
) -> dict[str, Any]:
    """Return what `strict.json` holds: all that firmware needs to feed the model and to read it."""
    logits, uncertainty = files.outputs
    return {
        "schema": SCHEMA,
        "statement": statement,
        "model": files.model.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "n_bytes": len(data),
        "input": {**files.input.to_dict(), "unit": "mV", "leads": list(leads), "rounding": ROUNDING},
        "outputs": [
            {**logits.to_dict(), "unit": "logit", "labels": list(labels)},
            {**uncertainty.to_dict(), "unit": "log standard deviation"},
        ],
        "operators": dict(sum((Counter({row.op: row.count}) for row in files.audit.ops), Counter())),
        "clamps": [clamp.to_dict() for clamp in files.clamps],
        "recipe": recipe.to_dict(),
        "calibration_records": n_calibration,
        "ranges_sha256": files.ranges_sha256,
    }
