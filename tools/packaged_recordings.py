"""Make the recordings that ship with the packaged student: `python tools/packaged_recordings.py DATA [--out FOLDER]`.

DATA is the folder of development recordings (`metadata.csv`, `signals/`). The result is the same on every machine: the calibration
recordings that `export/student/calibration_ids.json` names, and validation recordings of other persons, one of each person, chosen
by a rule that looks at labels and public numbers only, never at what a model says.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.student_run.packaged import PACKAGED_RUN
from export.student_run.recordings import (
    CALIBRATION,
    INDEX_FILE,
    LABEL_CHARACTERS,
    RECORDINGS,
    SAMPLES_FILE,
    SCHEMA,
    VALIDATION,
    content_sha256,
    residuals,
)
from lsemvae.data.convert import convert_folder
from lsemvae.data.store import RecordStore
from lsemvae.ecg.frontend import BASE
from lsemvae.formats.whole import whole_file, write_whole

SOURCE: Final = "PTB-XL"
LICENCE: Final = "CC-BY-4.0"
LEADS: Final = ("I", "II")
N_VALIDATION: Final = 640
# Enough positives for an AUROC to stand on; with more of the frequent ones nothing would be left for the rest.
POSITIVES_OF_A_LABEL: Final = 60
LICENCE_FILE: Final = "LICENSE.txt"
CREDIT: Final[dict[str, Any]] = {
    "title": "Recordings for calibrating and judging the packaged student",
    "licence": LICENCE,
    "licence_url": "https://creativecommons.org/licenses/by/4.0/",
    "attribution": [
        "Wagner P., Strodthoff N., Bousseljot R., Samek W., Schaeffter T.: PTB-XL, a large publicly available "
        "electrocardiography dataset (version 1.0.3). PhysioNet (2022), https://doi.org/10.13026/kfzx-aw45",
        "Wagner P. et al.: PTB-XL, a large publicly available electrocardiography dataset. Sci Data 7:154 (2020)",
        "Goldberger A. et al.: PhysioBank, PhysioToolkit and PhysioNet. Circulation 101:e215 (2000)",
    ],
    "changes": [
        "leads I and II only, resampled from 500 to 250 Hz and filtered to 0.5-40 Hz by this project's front-end, "
        "rounded to 0.25 uV",
        "recordings of the source 'PTB-XL 1.0.3 (limb leads)' were made from a copy scaled for each lead; "
        "the scales of the leads to each other were restored, the overall gain was not (gain_known is false)",
        "labels are this project's, derived from the statements and the heart axis of PTB-XL",
    ],
    "statement": "Labels are statements of ECG readers; none is pulmonary hypertension. A uid is PTB-XL's public record number.",
    "chosen": (
        "calibration: as calibration_ids.json names them; validation: of persons that do not calibrate, one recording each, below "
        f"the front-end's clip: of each label up to {POSITIVES_OF_A_LABEL} positives, those of known gain first, then others up to "
        f"{N_VALIDATION} in the order of the SHA-256 of their uid"
    ),
}


def validation_rows(store: RecordStore, calibration: Sequence[str]) -> np.ndarray:
    """Return the rows of the validation recordings, in the order of the store."""
    free = ~np.isin(store.patient, store.patient[np.isin(store.uid, list(calibration))])
    spread = sorted(np.flatnonzero(free), key=lambda row: hashlib.sha256(str(store.uid[row]).encode()).hexdigest())
    spread = sorted(spread, key=lambda row: not store.gain_known[row])
    of_persons: dict[str, int] = {}
    for row in spread:
        if np.abs(store.millivolts([row], leads=LEADS)).max() < BASE.clip_mv:
            of_persons.setdefault(str(store.patient[row]), int(row))
    usable = np.array(list(of_persons.values()))
    positives = [usable[store.labels[usable, k] == 1][:POSITIVES_OF_A_LABEL] for k in range(store.labels.shape[1])]
    every = sorted(usable, key=lambda row: hashlib.sha256(str(store.uid[row]).encode()).hexdigest())
    order = list(dict.fromkeys(np.concatenate([*positives, every]).tolist()))
    return np.sort(np.array(order[:N_VALIDATION]))


def make(data: Path, out: Path) -> str:
    """Write the folder of packaged recordings from the development recordings, and return its content's SHA-256."""
    with (data / "metadata.csv").open(newline="", encoding="utf-8") as handle:
        licences = {row["uid"]: row["licence"] for row in csv.DictReader(handle)}
    calibration = json.loads((PACKAGED_RUN / "calibration_ids.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        store = convert_folder(data, Path(folder) / "store", source=SOURCE)
        position = {str(uid): row for row, uid in enumerate(store.uid)}
        first = np.array([position[uid] for uid in calibration])
        rows = np.concatenate([first, validation_rows(store, calibration)])
        if other := {licences[str(uid)] for uid in store.uid[rows]} - {LICENCE}:
            raise SystemExit(f"found recordings under {sorted(other)}; expected {LICENCE} only")
        low, high = residuals(np.asarray(store.samples[rows][:, [store.index["leads"].index(lead) for lead in LEADS]]))
    index = {
        "schema": SCHEMA,
        **CREDIT,
        "leads": list(LEADS),
        "fs_hz": store.index["fs_hz"],
        "n_samples": store.index["n_samples"],
        "lsb_uv": store.index["lsb_uv"],
        "frontend_sha256": store.index["frontend_sha256"],
        "labels": list(store.label_names),
        "rows": {
            "uid": [str(uid) for uid in store.uid[rows]],
            "role": [CALIBRATION] * len(first) + [VALIDATION] * (len(rows) - len(first)),
            "source": [str(source) for source in store.source[rows]],
            "fold": [int(fold) for fold in store.fold[rows]],
            "gain_known": [bool(known) for known in store.gain_known[rows]],
            "labels": {
                name: "".join(LABEL_CHARACTERS[2 if np.isnan(v) else int(v)] for v in store.labels[rows, k])
                for k, name in enumerate(store.label_names)
            },
        },
    }
    index["sha256"] = content_sha256(index, low, high)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / INDEX_FILE, json.dumps(index, sort_keys=True, indent=None) + "\n")
    with whole_file(out / SAMPLES_FILE) as part, part.open("wb") as handle:
        np.savez_compressed(handle, allow_pickle=False, low=low, high=high)
    terms = (data / "LICENSES" / f"{LICENCE}.txt").read_text(encoding="utf-8").split("The credits are in")[0].rstrip()
    said = ["The recordings in this folder:", *CREDIT["attribution"], "", "Changes:", *CREDIT["changes"], "", terms]
    write_whole(out / LICENCE_FILE, "\n".join(said) + "\n")
    return str(index["sha256"])


def main() -> None:
    """Make the folder and print its hash and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=RECORDINGS)
    args = parser.parse_args()
    said = make(args.data, args.out)
    size = sum(path.stat().st_size for path in args.out.iterdir())
    sys.stdout.write(f"{args.out}: {size / 1e6:.2f} MB, SHA-256 {said}\n")


if __name__ == "__main__":
    main()
