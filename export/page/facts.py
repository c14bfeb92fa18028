"""What the export report is made of, checked before a page is written from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from export.errors import ExportError
from export.gates.parity import REFERENCE
from export.page.gates import is_float

# A colour and a row of panels each; more files than this would be neither told apart nor small.
MAX_DRAWN: Final = 4
_REPORT_KEYS: Final = ("recipe", "sizes", "audit", "parity", "latency", "golden_tolerance", "data", "versions")
_ADVICE: Final = "Build the page from the arrays and the report of one and the same export."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PageFacts:
    """Everything that the page says; no recording id and no path is among it.

    Attributes
    ----------
    report
        What `export.report.report_dict` returns.
    id, version, label_statement, intended_use, not_for
        Texts of the manifest.
    labels
        Names of the outputs, in the order of the columns of the arrays.
    p_fp32
        Calibrated probabilities `[n, K]` of the trained model on the validation recordings.
    p_files
        File name as in the report (`tflite_int8`) to its calibrated probabilities `[n, K]` on the same recordings.
    thresholds
        Operating point of each output as calibrated probability; may leave outputs out.
    recipe
        What `export.report.recipe_dict` returns; None for a float bundle.
    notes
        Sentences about the decision rule and the data, each a paragraph.
    """

    report: Mapping[str, Any]
    id: str
    version: str
    label_statement: str
    intended_use: str
    labels: tuple[str, ...]
    p_fp32: np.ndarray
    p_files: Mapping[str, np.ndarray]
    not_for: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    recipe: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together, and a report that lacks a part."""
        missing = [key for key in _REPORT_KEYS if key not in self.report]
        if missing:
            raise ExportError(
                f"found a report without {', '.join(missing)}; expected all of {', '.join(_REPORT_KEYS)}",
                advice=_ADVICE,
            )
        compared = self._compared()
        missing = [name for name in self.p_files if name not in compared]
        if missing:
            raise ExportError(
                f"found probabilities of {', '.join(missing)}; expected files that the report compares with {REFERENCE} "
                f"({', '.join(compared) or 'none'})",
                advice=_ADVICE,
            )
        shape = (len(self.p_fp32), len(self.labels))
        _check_probabilities("fp32", self.p_fp32, shape=shape, finite=all(one["finite"] for one in compared.values()))
        for name, p in self.p_files.items():
            _check_probabilities(name, p, shape=shape, finite=compared[name]["finite"])
        if len(self.drawn) > MAX_DRAWN:
            raise ExportError(f"found {len(self.drawn)} files to draw; expected at most {MAX_DRAWN}", advice=_ADVICE)

    @property
    def primary(self) -> str:
        """The output that decides."""
        return str(self.report["parity"]["primary"])

    @property
    def drawn(self) -> dict[str, np.ndarray]:
        """The files that have pictures: quantized, and finite. A float file differs by rounding only, which no picture shows."""
        compared = self._compared()
        return {name: p for name, p in self.p_files.items() if not is_float(name) and compared[name]["finite"]}

    @property
    def broken(self) -> tuple[str, ...]:
        """The quantized files that cannot be drawn, because they or the trained model gave NaN or infinity."""
        return tuple(name for name in self.p_files if not is_float(name) and name not in self.drawn)

    def differences(self) -> dict[str, np.ndarray]:
        """Return drawn file minus trained model, `[n, K]` by file."""
        return {name: p - self.p_fp32 for name, p in self.drawn.items()}

    def against_trained(self) -> dict[str, Mapping[str, Any]]:
        """Return the report's comparisons of the drawn files with the trained model, by file."""
        found = self._compared()
        return {name: found[name] for name in self.drawn}

    def _compared(self) -> dict[str, Mapping[str, Any]]:
        return {one["candidate"]: one for one in self.report["parity"]["comparisons"] if one["reference"] == REFERENCE}


def _check_probabilities(name: str, p: np.ndarray, *, shape: tuple[int, int], finite: bool) -> None:
    """Refuse another shape, and numbers that are no probabilities unless the report itself says that they are not finite."""
    if p.shape != shape or not len(p):
        raise ExportError(
            f"found probabilities of {name} with shape {list(p.shape)}; expected {list(shape)}, one recording at least",
            advice=_ADVICE,
        )
    known = p[np.isfinite(p)]
    if (finite and known.size < p.size) or (known.size and not (known.min() >= 0 and known.max() <= 1)):
        raise ExportError(
            f"found probabilities of {name} that are no numbers from 0 to 1; expected calibrated probabilities",
            advice=_ADVICE,
        )
