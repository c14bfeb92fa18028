"""Models of either preset from their run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lsemvae.model.build import Model, build_model, config_kind
from lsemvae.model.config import from_json
from lsemvae.train.checkpoint import load_weights, read_config
from lsemvae.train.run import read_object


def fresh_model(run_dir: Path) -> tuple[Model, dict[str, Any]]:
    """The model that a run's config.json describes, with fresh weights, and that config.json."""
    name = read_object(Path(run_dir) / "config.json").get("kind")
    kind = config_kind(name, of=str(run_dir))
    config = read_config(Path(run_dir), str(name))
    return build_model(from_json(kind, config["model"])), config


def load_model(run_dir: Path) -> tuple[Model, dict[str, Any]]:
    """The `base` or `paper` model of a run folder (pre-trained or fine-tuned) in evaluation mode, and its config.json."""
    model, config = fresh_model(run_dir)
    load_weights(model, Path(run_dir) / "model.safetensors")
    return model.eval(), config
