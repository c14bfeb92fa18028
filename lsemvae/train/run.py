"""A run folder: what was asked, what came out, and from which code and data.

::

    config.json          kind, model, train, labels, leads (JSON)
    run.json             command, git revision, data hash, versions, seed, folds left out
    metrics.jsonl        one line per epoch
    model.safetensors    averaged weights of the last epoch (what is used)
    resume-NNNNN/        raw weights, optimizer state, epoch counter; removed when the run is complete
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from lsemvae.ecg.errors import FormatError


def git_revision() -> str:
    """Revision of the code, with `+dirty` where it differs from it; `unknown` outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        revision = _git(here, "rev-parse", "HEAD")
        return revision + ("+dirty" if _git(here, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(where: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """Versions of what computes."""
    names = ("lsemvae", "torch", "numpy", "safetensors", "scikit-learn")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that a crash leaves the old file or the new one."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(path)


def read_json(path: Path) -> Any:
    """Read JSON; a missing file names what was expected."""
    if not path.is_file():
        raise FormatError(f"{path}: found no such file, expected a run folder's {path.name}")
    return json.loads(path.read_text(encoding="utf-8"))


def start_run(root: Path, config: dict[str, Any], *, data_hash: str, left_out: list[int], seed: int) -> None:
    """Create the folder, or check that an existing one was begun with the same configuration and data."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / "config.json"
    if path.is_file():
        _check_same(root, read_json(path), config, data_hash, left_out)
        return
    run = {
        "command": " ".join(sys.argv),
        "git_revision": git_revision(),
        "data_sha256": data_hash,
        "folds_left_out": left_out,
        "seed": seed,
        "versions": versions(),
    }
    write_json(root / "run.json", run)
    write_json(path, config)


def check_parent(parent: Path, left_out: list[int]) -> None:
    """Refuse a parent run that left out other folds: what it saw of them would leak into their figures."""
    found = read_json(parent / "run.json")["folds_left_out"]
    if sorted(found) != sorted(left_out):
        raise FormatError(
            f"{parent}: found a run that left out folds {found}, expected {sorted(left_out)} as in this stage",
            advice="Leave the same folds out in pretrain, finetune and distill.",
        )


def _check_same(root: Path, old: dict[str, Any], new: dict[str, Any], data_hash: str, left_out: list[int]) -> None:
    differing = sorted(key for key in set(old) | set(new) if old.get(key) != new.get(key))
    begun = read_json(root / "run.json")
    if begun["data_sha256"] != data_hash:
        differing.append("data")
    if begun["folds_left_out"] != left_out:
        differing.append("folds left out")
    if differing:
        raise FormatError(
            f"{root}: found a run with other {', '.join(differing)}, expected the same to resume it",
            advice="Choose another --out, or remove the old run folder.",
        )


def append_metrics(root: Path, row: dict[str, float | int | str]) -> None:
    """Add one line to metrics.jsonl."""
    with (root / "metrics.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(row) + "\n")
