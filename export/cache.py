"""Where the exporter and the benchmark keep what they made and can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """Return a folder of that name below `$XDG_CACHE_HOME/lsemvae` or `~/.cache/lsemvae`; it is made where it lacks."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "lsemvae" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
