"""The clinic: devices, recordings, store and the `edge_app` command.

Public names are loaded when they are first used; importing this package runs no code of its own and loads no
third-party module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from edge_app.doctor import examine
    from edge_app.session import record_session
    from edge_app.session.wish import DriverChoice, Wish
    from edge_app.store.records import ClinicStore
    from edge_app.visit import Kept, VisitResult, bring_back, conclude, interrupted, judge, keep, record

__all__ = [
    "ClinicStore",
    "DriverChoice",
    "Kept",
    "VisitResult",
    "Wish",
    "bring_back",
    "conclude",
    "examine",
    "interrupted",
    "judge",
    "keep",
    "record",
    "record_session",
]

_HOMES: Final = {
    "edge_app.doctor": ("examine",),
    "edge_app.session": ("record_session",),
    "edge_app.session.wish": ("DriverChoice", "Wish"),
    "edge_app.store.records": ("ClinicStore",),
    "edge_app.visit": ("Kept", "VisitResult", "bring_back", "conclude", "interrupted", "judge", "keep", "record"),
}


def __getattr__(name: str) -> Any:
    """Return a public name from the module where it lives (PEP 562)."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
