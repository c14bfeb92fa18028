"""Bundle and recording to outcome: manifest, trust, runtimes, self-test, screener; one way for clinic, exporter, laboratory."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

__all__ = [
    "Bundle",
    "Manifest",
    "ScreenResult",
    "Screener",
    "VersionRatchet",
    "diff_bundles",
    "open_bundle",
    "open_screener",
    "self_test",
]

_HOMES: Final = {
    "Bundle": "lsemvae.screen.bundle",
    "Manifest": "lsemvae.screen.manifest",
    "ScreenResult": "lsemvae.screen.screener",
    "Screener": "lsemvae.screen.screener",
    "VersionRatchet": "lsemvae.screen.ratchet",
    "diff_bundles": "lsemvae.screen.diff.compare",
    "open_bundle": "lsemvae.screen.bundle",
    "open_screener": "lsemvae.screen.screener",
    "self_test": "lsemvae.screen.selftest",
}


def __getattr__(name: str) -> Any:
    """Load a public name at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
