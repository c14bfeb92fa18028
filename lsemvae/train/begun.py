"""A run folder that was begun before a configuration got another field says the same as one with the field at its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lsemvae.ecg.errors import FormatError
from lsemvae.model.config import from_json
from lsemvae.train.run import read_object


def as_begun(run_dir: Path, config: dict[str, Any], **kinds: type) -> dict[str, Any]:
    """`config` in the words of the folder's config.json where both mean the same, else as it is.

    `kinds` names the parts that are configurations (`model=LsEmvaeConfig`): a field that the folder lacks counts as its default.
    """
    path = Path(run_dir) / "config.json"
    if not path.is_file():
        return config
    old = read_object(path)
    same = [name for name, kind in kinds.items() if _same(kind, old.get(name), config[name])]
    return {**config, **{name: old[name] for name in same}}


def _same(kind: type, old: object, asked: dict[str, Any]) -> bool:
    if not isinstance(old, dict):
        return False
    try:
        return bool(from_json(kind, old) == from_json(kind, asked))
    except FormatError:  # keys or values that this version does not know: another configuration
        return False
