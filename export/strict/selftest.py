"""What a port of the strict-integer model must reproduce: integers for the synthetic recordings of `golden.npz`."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from export.errors import ExportModelError
from export.gates.golden import golden_inputs
from export.strict.interface import quantize_ecg, read_interface, signature_runner
from lsemvae.ecg.frontend import FrontendSpec
from lsemvae.screen.runtime.tflite import KERNELS

# Kernels round the last bit in their own ways; another CPU may do so once more at the same places.
_MARGIN: Final = 2
_LEAST_TOLERANCE_STEPS: Final = 2


def self_test(model: bytes, *, leads: Sequence[str], spec: FrontendSpec) -> dict[str, Any]:
    """Return inputs' checksums and expected outputs of a strict-integer file, for `strict.json`.

    The CRC-32 (zlib's) of each INT8 input, lead after lead, checks the rounding; the outputs are those of the runtime's
    reference kernels, plain loops as a microcontroller runs them. `tolerance_steps` is twice what the kernels of this
    machine differ by.
    """
    runners = [signature_runner(model, kernels=kernels) for kernels in reversed(KERNELS)]
    ecg_io, _ = read_interface(runners[0])
    ecg = golden_inputs(leads=tuple(leads), spec=spec)
    if ecg.shape[1:] != ecg_io.shape[1:]:
        raise ExportModelError(
            f"the front-end gives recordings of {list(ecg.shape[1:])}; expected {list(ecg_io.shape[1:])}, the model's input"
        )
    integers = [quantize_ecg(one[None], ecg_io) for one in ecg]
    logits, uncertainty = (
        np.stack([[runner(ecg=one)[name][0] for one in integers] for runner in runners]).astype(int)
        for name in ("logits", "uncertainty")
    )
    spread = max(int(np.abs(found - found[0]).max()) for found in (logits, uncertainty))
    return {
        "inputs": "golden.npz: ecg, in mV; quantized as the input's rounding says",
        "crc32": [zlib.crc32(one.tobytes()) for one in integers],
        "logits": logits[0].tolist(),
        "uncertainty": uncertainty[0].tolist(),
        "tolerance_steps": max(_LEAST_TOLERANCE_STEPS, _MARGIN * spread),
    }
