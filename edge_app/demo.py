"""The whole way of a heartbeat without hardware: a real 12-lead recording, played by a virtual six-lead device."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from edge_app.link.inprocess import InProcessTransport
from lsemvae.ecg.errors import FormatError
from lsemvae.ecg.record import EcgRecord
from lsemvae.formats.dicom import read_dicom

# A resting 12-lead ECG (1 kHz, 10 s) that the package pydicom carries as its own test file.
_PACKAGE: Final = "pydicom"
_FILE: Final = Path("data", "test_files", "waveform_ecg.dcm")

# The demonstration has a store of its own: a played recording must never lie among those of patients.
DEMO_DIR: Final = "demo"


def demo_recording() -> EcgRecord:
    """Read the recording that pydicom ships.

    Raises
    ------
    FormatError
        pydicom is not installed, or came without its test files.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise FormatError(
            "The demonstration needs the recording that the package pydicom carries; it is not installed.",
            advice="Install it with: pip install 'lsemvae[demo]'",
        )
    path = Path(spec.origin).parent / _FILE
    if not path.is_file():
        raise FormatError(
            f"The installed pydicom has no {_FILE.name}.",
            advice="Install pydicom from its wheel, or screen a recording of your own: edge_app screen FILE",
        )
    return read_dicom(path)


def demo_transport(recording: EcgRecord, *, speed: float) -> InProcessTransport:
    """Return a link to a virtual device that measures leads I and II of `recording` once, `speed` times real time."""
    return InProcessTransport(recording, speed=speed, loop=False)
