"""ECG files to records: one file a format, chosen by content."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

__all__ = ["find_wfdb", "read_csv", "read_dicom", "read_npz", "read_record", "read_wfdb", "write_npz"]

_HOMES: Final = {
    "find_wfdb": "lsemvae.formats.wfdb",
    "read_csv": "lsemvae.formats.csv",
    "read_dicom": "lsemvae.formats.dicom",
    "read_npz": "lsemvae.formats.npz",
    "read_record": "lsemvae.formats.read",
    "read_wfdb": "lsemvae.formats.wfdb",
    "write_npz": "lsemvae.formats.npz",
}


def __getattr__(name: str) -> Any:
    """Load a public name at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
