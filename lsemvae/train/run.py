"""The run folder of a training: its configuration, its weights, and which code and data they came from.

::

    config.json          kind, model, train, labels, leads (JSON)
    tasks.json           the task set: what each label and measure is, and the statement of the cohort
    run.json             command, git revision, data hash, versions, seed, folds left out
    metrics.jsonl        one line per epoch
    model.safetensors    averaged weights of the last epoch (what is used)
    resume-NNNNN/        raw weights, optimizer state, epoch counter; removed when the run is complete
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lsemvae.data.store import RecordStore
from lsemvae.data.tasks import BUILT_IN, TaskSet, task_set_from_json
from lsemvae.ecg.errors import FormatError
from lsemvae.formats.whole import write_whole
from lsemvae.model.config import from_json

TASKS_FILE: Final = "tasks.json"
_RUN_ADVICE: Final = "Point to a run folder that lsemvae pretrain, finetune or distill made, or copy it again."


def git_revision() -> str:
    """Return the revision of the code, with `+dirty` where files differ from it; `unknown` outside a checkout."""
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
    """Return the versions of Python and of the packages that compute."""
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
    write_whole(path, json.dumps(data, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or damaged file names what was expected."""
    if not path.is_file():
        raise FormatError(f"{path}: found no such file, expected a run folder's {path.name}", advice=_RUN_ADVICE)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not UTF-8, or no JSON
        raise FormatError(
            f"{path}: found a file that is no JSON ({error}), expected some", advice=_RUN_ADVICE
        ) from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object: `read_json`, and anything else is refused."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise FormatError(f"{path}: found JSON of type {type(data).__name__}, expected an object", advice=_RUN_ADVICE)
    return data


def folds_left_out(run_dir: Path) -> list[int]:
    """Return the folds that a run has not seen, from its run.json."""
    folds = read_object(run_dir / "run.json").get("folds_left_out")
    if not isinstance(folds, list) or not all(isinstance(fold, int) for fold in folds):
        raise FormatError(
            f"{run_dir / 'run.json'}: found folds_left_out {folds!r}, expected a list of fold numbers",
            advice="Train the run again: without them nobody knows what it has seen.",
        )
    return sorted(folds)


def as_begun(run_dir: Path, config: dict[str, Any], **kinds: type) -> dict[str, Any]:
    """Return `config` in the words of the folder's config.json where both mean the same, else as it is.

    A run that was begun before a configuration got another field means the same as one with that field at its default.
    `kinds` names the parts that are configurations (`model=LsEmvaeConfig`).
    """
    path = Path(run_dir) / "config.json"
    if not path.is_file():
        return config
    begun = read_object(path)
    found = dict(config)
    for name, kind in kinds.items():
        old = begun.get(name)
        try:
            if isinstance(old, dict) and from_json(kind, old) == from_json(kind, config[name]):
                found[name] = old
        except FormatError:  # keys or values that this version does not know: another configuration
            continue
    return found


def start_run(root: Path, config: dict[str, Any], *, store: RecordStore, left_out: list[int], seed: int) -> None:
    """Create a run folder, or check that the existing one was begun with the same configuration and data.

    A store of another front-end is refused.
    """
    store.check_frontend()
    root.mkdir(parents=True, exist_ok=True)
    path = root / "config.json"
    if path.is_file():
        old, begun = read_object(path), read_object(root / "run.json")
        differing = sorted(key for key in set(old) | set(config) if old.get(key) != config.get(key))
        # A run of version 0.1.0 did not note its rows.
        if (begun.get("data_sha256"), begun.get("rows_sha256", store.rows_hash)) != (store.data_hash, store.rows_hash):
            differing.append("data")
        if folds_left_out(root) != sorted(left_out):
            differing.append("folds left out")
        if differing:
            raise FormatError(
                f"{root}: found a run with other {', '.join(differing)}, expected the same to resume it",
                advice="Choose another --out, or remove the old run folder.",
            )
        return
    run = {
        "command": " ".join(sys.argv),
        "git_revision": git_revision(),
        "data_sha256": store.data_hash,
        "rows_sha256": store.rows_hash,
        "folds_sha256": store.folds_hash,
        "store": Path(os.path.relpath(store.root, root)).as_posix(),
        "folds_left_out": left_out,
        "seed": seed,
        "versions": versions(),
    }
    write_json(root / "run.json", run)
    write_json(root / TASKS_FILE, store.tasks.to_json())
    write_json(path, config)


def tasks_of(run_dir: Path) -> TaskSet:
    """Return the task set that a run was trained on; runs of version 0.1.0 noted none and had the built-in one."""
    path = Path(run_dir) / TASKS_FILE
    return task_set_from_json(read_object(path), of=str(path)) if path.is_file() else BUILT_IN


def store_of(run_dir: Path) -> Path:
    """Return the record store that a run was trained on; its run.json notes the path relative to the run folder."""
    noted = read_object(run_dir / "run.json").get("store")
    found = run_dir / noted if isinstance(noted, str) else None
    if found is None or not (found / "index.json").is_file():
        raise FormatError(
            f"{run_dir}: found no record store at {found or 'a place that run.json notes'}, expected the one it was trained on",
            advice="Name the store with --data.",
        )
    return found


def check_parent(parent: Path, left_out: list[int], store: RecordStore) -> None:
    """Refuse a parent run that left out other folds, or folds of other data: what it saw would leak into the figures."""
    found = folds_left_out(parent)
    if found != sorted(left_out):
        raise FormatError(
            f"{parent}: found a run that left out folds {found}, expected {sorted(left_out)} as in this stage",
            advice="Leave the same folds out in pretrain, finetune and distill.",
        )
    if left_out:
        check_same_folds(parent, store)


def check_same_folds(run_dir: Path, store: RecordStore) -> None:
    """Refuse a store whose folds are not those that a run left out: fold 9 of other data holds other patients."""
    run = read_object(run_dir / "run.json")
    found = (run.get("data_sha256"), run.get("folds_sha256", store.folds_hash))  # 0.1.0 noted no folds
    if found != (store.data_hash, store.folds_hash):
        raise FormatError(
            f"{run_dir}: found a run that left folds of other data out, expected those of the store {store.root}",
            advice="Use the record store that the run was trained on.",
        )


def check_labels(found: Sequence[str], expected: Sequence[str], *, of: str) -> None:
    """Refuse columns of labels that mean something else than the model's outputs, in whatever order."""
    if tuple(found) != tuple(expected):
        raise FormatError(
            f"{of}: found the labels {', '.join(found)}, expected {', '.join(expected)} in this order",
            advice="Use the record store and the runs of one set of labels.",
        )


def keep_metrics(root: Path, epochs: int) -> None:
    """Cut metrics.jsonl to its first `epochs` lines: what a killed run noted beyond its last checkpoint is done again."""
    path = root / "metrics.jsonl"
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        write_whole(path, "".join(lines[:epochs]))


def append_metrics(root: Path, row: dict[str, float | int | str]) -> None:
    """Add one line to metrics.jsonl."""
    with (root / "metrics.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(row) + "\n")
