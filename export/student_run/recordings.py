"""The recordings that ship with the packaged student: those its INT8 form is calibrated on, and others to judge an export on.

They are public (PTB-XL, CC BY 4.0) and hold what the front-end makes of leads I and II, as the laboratory's record store does:
int16, 0.25 uV a unit. `tools/packaged_recordings.py` makes the folder; `recordings.json` says whose they are and how they were chosen.

The front-end passes 0.5-40 Hz of 125, so that a sample follows from those before it to a few units. What is stored is the rest
(in wrapped 16 bits, zig-zag, split into low and high bytes), which takes a third of the space and loses nothing.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.errors import ExportCalibrationError
from export.student_run.packaged import PACKAGED_RUN
from lsemvae.data.store import RecordStore
from lsemvae.ecg.canonical import canonical_json, parse_json_object
from lsemvae.ecg.errors import ManifestError

RECORDINGS: Final = PACKAGED_RUN / "recordings"
INDEX_FILE: Final = "recordings.json"
SAMPLES_FILE: Final = "samples.npz"
SCHEMA: Final = "lsemvae-recordings/1"
CALIBRATION: Final = "calibration"
VALIDATION: Final = "validation"
LABEL_CHARACTERS: Final = "01?"
# Linear prediction by least squares over the 256 calibration recordings, in 1/4096: the newest sample first.
_PREDICTOR: Final = tuple(
    map(int, "19403 -39282 39012 -9777 -17472 12266 8622 -10308 -4561 8531 1670 -6887 1400 3780 -3098 787".split())
)
_PREDICTOR_BITS: Final = 12


def packaged_recordings(folder: Path = RECORDINGS) -> RecordStore:
    """Return the recordings as a record store of the leads I and II, each of a person of its own.

    Raises
    ------
    ExportCalibrationError
        A file is missing or damaged: the content does not have the hash that stands in `recordings.json`.
    """
    try:
        index = parse_json_object((folder / INDEX_FILE).read_bytes())
        with (folder / SAMPLES_FILE).open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
            low, high = stored["low"], stored["high"]
        found, expected = content_sha256(index, low, high), index["sha256"]
        if (index["schema"], found) != (SCHEMA, expected):
            raise ValueError(f"found {index['schema']} with SHA-256 {found}, expected {SCHEMA} with {expected}")
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, ManifestError) as error:
        raise ExportCalibrationError(
            f"the packaged recordings in {folder} are damaged: {error}",
            advice="Install lsemvae again, or name recordings of your own with --data.",
        ) from error
    # What `residuals` took apart, put together again: time by time, for each sample needs those before it.
    folded = low.astype(np.int64) | high.astype(np.int64) << 8
    left = folded >> 1 ^ -(folded & 1)
    order, newest_last = len(_PREDICTOR), np.array(_PREDICTOR[::-1])
    made = np.zeros((*left.shape[:2], left.shape[2] + order), np.int64)
    for t in range(left.shape[2]):
        predicted = made[:, :, t : t + order] @ newest_last >> _PREDICTOR_BITS
        made[:, :, t + order] = (predicted + left[:, :, t]).astype(np.int16)
    rows, n = index["rows"], len(low)
    values = {"0": 0.0, "1": 1.0, "?": np.nan}
    uid = np.array(rows["uid"])
    return RecordStore(
        root=folder,
        index={**index, "n_records": n, "measures": [], "source_sha256": found},
        samples=made[:, :, order:].astype(np.int16),
        uid=uid,
        patient=uid,
        split=np.array(rows["role"]),
        source=np.array(rows["source"]),
        fold=np.array(rows["fold"]),
        labels=np.array([[values[character] for character in rows["labels"][name]] for name in index["labels"]]).T,
        measures=np.zeros((n, 0)),
        age=np.full(n, np.nan),
        sex_male=np.full(n, np.nan),
        gain_known=np.array(rows["gain_known"]),
        present=np.ones((n, len(index["leads"])), dtype=bool),
    )


def content_sha256(index: Mapping[str, Any], low: np.ndarray, high: np.ndarray) -> str:
    """Return the SHA-256 over everything but itself: the index as canonical JSON, then the bytes of both arrays."""
    said = canonical_json({name: value for name, value in index.items() if name != "sha256"})
    return hashlib.sha256(said + low.tobytes() + high.tobytes()).hexdigest()


def residuals(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what prediction leaves of int16 `[record, lead, time]`, as low and high bytes of the same shape."""
    past = np.pad(samples.astype(np.int64), ((0, 0), (0, 0), (len(_PREDICTOR), 0)))
    predicted = sum(
        weight * past[:, :, len(_PREDICTOR) - lag : past.shape[2] - lag] for lag, weight in enumerate(_PREDICTOR, 1)
    )
    left = (samples - (predicted >> _PREDICTOR_BITS)).astype(np.int16)  # modulo 2**16: undone by the same wrap
    folded = ((left << 1) ^ (left >> 15)).view(np.uint16)
    return (folded & 0xFF).astype(np.uint8), (folded >> 8).astype(np.uint8)
