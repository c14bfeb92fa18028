"""The reference pages that are written from the code, so that they cannot say something else than the code does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tools import promises
from tools.pages import api, bundle, commands, errors

__all__ = ["PAGES", "ROOT"]

ROOT: Final = Path(__file__).resolve().parents[2]
# What each generated page should hold now, made from a checkout.
PAGES: Final[Mapping[str, Callable[[Path], str]]] = MappingProxyType(
    {
        "docs/reference/commands.md": commands.page,
        "docs/reference/python-api.md": api.page,
        "docs/reference/bundle.md": bundle.page,
        "docs/reference/errors.md": errors.page,
        "docs/promises.md": promises.page,
    }
)
