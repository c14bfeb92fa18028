"""What the runtimes are asked: the bundle's golden signals, and real recordings through the clinic's front-end."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from lsemvae.data.folder import EcgFolder
from lsemvae.ecg import frontend
from lsemvae.screen.manifest import Manifest

# Shard and how many of its recordings, from the first: two archives of good recordings (device and country differ), and one
# of telephone recordings with open electrodes, which reach the front-end's clip. Amplitude tails are where a runtime
# that saturates shows.
REAL: Final = (("signals/ptbxl_05.npz", 121), ("signals/ludb_00.npz", 60), ("signals/cinc2011_01.npz", 40))
# Faulty files are told from good ones by fewer recordings: all golden ones and the first real ones.
N_FAULTY: Final = 48


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """`ecg` float32 `[recording, lead, time]` in mV; the first `n_golden` are synthetic, the rest real; `n_outputs` logits."""

    ecg: np.ndarray
    n_golden: int
    n_outputs: int

    @property
    def golden(self) -> slice:
        """Rows of the golden signals."""
        return slice(0, self.n_golden)

    @property
    def real(self) -> slice:
        """Rows of the real recordings; none where the development recordings are absent."""
        return slice(self.n_golden, len(self.ecg))


def questions(golden_npz: bytes, manifest: Manifest, *, data: Path | None) -> Questions:
    """Return the golden signals, and the real recordings where `data` is given."""
    with np.load(io.BytesIO(golden_npz), allow_pickle=False) as archive:
        golden, n_outputs = archive["ecg"].astype(np.float32), archive["logits"].shape[1]
    parts = [golden] if data is None else [golden, _real(data, manifest)]
    return Questions(np.concatenate(parts), n_golden=len(golden), n_outputs=n_outputs)


def _real(data: Path, manifest: Manifest) -> np.ndarray:
    folder = EcgFolder(data)
    rows = [row for file, count in REAL for row in folder.rows if row["file"] == file and int(row["row"]) < count]
    leads, spec = manifest.input.leads, manifest.frontend
    return np.stack([frontend.apply(folder.record(row), leads=leads, spec=spec) for row in rows])
