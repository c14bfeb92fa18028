"""The student that ships: the run folder behind the shipped bundle, so that anyone can export it again.

The folder holds weights, configuration, decision rule, card and the list of calibration recordings (public PTB-XL numbers), and
no recording. It is read only; work files go to the cache.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from export.cache import cache_folder

PACKAGED_RUN: Final = Path(__file__).parents[1] / "student"


def is_packaged(run_dir: Path) -> bool:
    """Return whether a run folder is the packaged one."""
    return run_dir.resolve() == PACKAGED_RUN.resolve()


def work_folder(run_dir: Path, *, name: str) -> Path:
    """Return where an export of `run_dir` keeps its work files: in the run folder, or in the cache for the packaged run."""
    if not is_packaged(run_dir):
        return run_dir / name
    weights = hashlib.sha256((run_dir / "model.safetensors").read_bytes()).hexdigest()
    return cache_folder("export") / f"packaged-{weights[:16]}"
