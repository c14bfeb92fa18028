"""LS-EMVAE: screening of 6-lead and 12-lead ECGs, from the record store to the signed bundle in the clinic.

The names below are the public door. Each is loaded at its first use, so that `import lsemvae` costs nothing and the
clinic never loads torch.

A recording, by names and units, never by position or guess:

>>> import lsemvae
>>> record = lsemvae.read_record("recording.csv")
>>> isinstance(record, lsemvae.EcgRecord), record.leads, record.fs_hz
(True, ('I', 'II'), 500.0)
>>> lsemvae.assess_quality(record).reasons
()
>>> lsemvae.apply_frontend(record, leads=lsemvae.LEADS[:6]).shape  # mV at 250 Hz, 10 s
(6, 2500)
>>> i_mv, ii_mv = record.to_mv()
>>> lsemvae.derive_limb_leads(i_mv, ii_mv).shape
(6, 6000)

A screener of the bundle that ships with the app:

>>> screener = lsemvae.open_screener()
>>> isinstance(screener, lsemvae.Screener)
True
>>> result = screener.screen(record)
>>> isinstance(result, lsemvae.ScreenResult), result.decision.outcome in set(lsemvae.Outcome)
(True, True)
>>> bundle = lsemvae.open_bundle()
>>> isinstance(bundle.manifest, lsemvae.Manifest), bundle.manifest.input.leads
(True, ('I', 'II'))

The laboratory: a store of recordings, and the network of a run folder (here the student that ships):

>>> store = lsemvae.open_store("store")
>>> store.millivolts([0], leads=("I", "II")).shape
(1, 2, 2500)
>>> student = lsemvae.load_model()
>>> import torch
>>> logits, uncertainty = student(torch.from_numpy(store.millivolts([0], leads=("I", "II"))))
>>> logits.shape[1] == len(student.config.labels)
True
>>> lsemvae.__version__.count(".") >= 2
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lsemvae.data.store import open_store
    from lsemvae.ecg.decision import Outcome
    from lsemvae.ecg.frontend import apply as apply_frontend
    from lsemvae.ecg.leads import LEADS, derive_limb_leads
    from lsemvae.ecg.quality import assess as assess_quality
    from lsemvae.ecg.record import EcgRecord
    from lsemvae.formats.read import read_record
    from lsemvae.screen.bundle import open_bundle
    from lsemvae.screen.manifest import Manifest
    from lsemvae.screen.screener import Screener, ScreenResult, open_screener
    from lsemvae.train.checkpoint import load_model

    __version__: str

__all__ = [
    "LEADS",
    "EcgRecord",
    "Manifest",
    "Outcome",
    "ScreenResult",
    "Screener",
    "__version__",
    "apply_frontend",
    "assess_quality",
    "derive_limb_leads",
    "load_model",
    "open_bundle",
    "open_screener",
    "open_store",
    "read_record",
]

# Where each name is loaded from: module and name there.
_HOMES: Final = {
    "LEADS": "lsemvae.ecg.leads:LEADS",
    "EcgRecord": "lsemvae.ecg.record:EcgRecord",
    "Manifest": "lsemvae.screen.manifest:Manifest",
    "Outcome": "lsemvae.ecg.decision:Outcome",
    "ScreenResult": "lsemvae.screen.screener:ScreenResult",
    "Screener": "lsemvae.screen.screener:Screener",
    "apply_frontend": "lsemvae.ecg.frontend:apply",
    "assess_quality": "lsemvae.ecg.quality:assess",
    "derive_limb_leads": "lsemvae.ecg.leads:derive_limb_leads",
    "load_model": "lsemvae.train.checkpoint:load_model",
    "open_bundle": "lsemvae.screen.bundle:open_bundle",
    "open_screener": "lsemvae.screen.screener:open_screener",
    "open_store": "lsemvae.data.store:open_store",
    "read_record": "lsemvae.formats.read:read_record",
}


def __getattr__(name: str) -> Any:
    """Load a public name at its first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("lsemvae")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, found = _HOMES[name].partition(":")
    return getattr(import_module(module), found)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
