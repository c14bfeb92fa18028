"""Which pages are generated, and what each of them should hold now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tools import promises
from tools.pages import api, bundle, commands, errors

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final[Mapping[str, Callable[[Path], str]]] = MappingProxyType(
    {
        "docs/reference/commands.md": commands.page,
        "docs/reference/python-api.md": api.page,
        "docs/reference/bundle.md": bundle.page,
        "docs/reference/errors.md": errors.page,
        "docs/promises.md": promises.page,
    }
)


def stale(root: Path = ROOT) -> list[str]:
    """Return the pages whose file differs from what the code says today."""
    return [name for name, page in PAGES.items() if _read(root / name) != page(root)]


def write(names: Iterable[str], root: Path = ROOT) -> None:
    """Write pages anew."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(PAGES[name](root), encoding="utf-8")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
