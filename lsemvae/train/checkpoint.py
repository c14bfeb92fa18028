"""Weights and optimizer state as safetensors, and models from run folders; nothing is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lsemvae.ecg.errors import FormatError, SampleError
from lsemvae.formats.whole import whole_file
from lsemvae.model.build import Model, build_model, config_kind
from lsemvae.model.config import LsEmvaeConfig, StudentConfig, from_json
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.model.student import StudentNet
from lsemvae.train.run import read_object

# The four packages are one wheel: the student behind the shipped bundle lies with the exporter.
SHIPPED_STUDENT: Final = Path(__file__).parents[2] / "export" / "student"


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors to a safetensors file: a crash leaves the old file or the new one."""
    with whole_file(path) as part:
        save_file({name: t.detach().contiguous().clone() for name, t in tensors.items()}, str(part))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; anything else is refused."""
    try:
        return load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise FormatError(
            f"{path}: cannot be read as safetensors ({error})", advice="Train the run again, or copy the file again."
        ) from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Load exactly the model's tensors; missing, unexpected or non-finite ones are refused by name."""
    found, wanted = load_tensors(path), model.state_dict()
    if set(found) != set(wanted):
        missing, extra = sorted(set(wanted) - set(found))[:3], sorted(set(found) - set(wanted))[:3]
        raise FormatError(
            f"{path}: found other tensors than the model has (missing {missing}, unexpected {extra})",
            advice="The checkpoint belongs to another architecture: compare config.json.",
        )
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise FormatError(f"{path}: found {name} {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise SampleError(f"{path}: found values in {name} that are not finite", advice="Train again.")
    model.load_state_dict(found)


def read_config(run_dir: Path, kind: str, *, stage: str | None = None) -> dict[str, Any]:
    """Return the config.json of a run; one of another kind (`lsemvae`, `paper`, `student`) or stage is refused."""
    config = read_object(Path(run_dir) / "config.json")
    if config.get("kind") != kind or not isinstance(config.get("model"), dict):
        raise FormatError(
            f"{run_dir}: found a run of kind {config.get('kind')!r}, expected {kind!r}",
            advice="Give the run folder of the stage that comes before: pretrain, then finetune, then distill.",
        )
    if stage is not None and config.get("stage") != stage:
        raise FormatError(
            f"{run_dir}: found a run of stage {config.get('stage')!r}, expected {stage!r}",
            advice=f"Run lsemvae {stage} first: the head of this model has not learned any label.",
        )
    return config


def load_student(run_dir: Path) -> tuple[StudentNet, dict[str, Any]]:
    """Return the student of a run folder in evaluation mode, and its config.json."""
    config = read_config(Path(run_dir), "student")
    model = StudentNet(from_json(StudentConfig, config["model"]))
    load_weights(model, Path(run_dir) / "model.safetensors")
    return model.eval(), config


def load_lsemvae(run_dir: Path) -> tuple[LsEmvae, dict[str, Any]]:
    """Return the LS-EMVAE of a run folder (pre-trained or fine-tuned) in evaluation mode, and its config.json."""
    config = read_config(Path(run_dir), "lsemvae")
    model = LsEmvae(from_json(LsEmvaeConfig, config["model"]))
    load_weights(model, Path(run_dir) / "model.safetensors")
    return model.eval(), config


def fresh_model(run_dir: Path) -> tuple[Model, dict[str, Any]]:
    """Return the model that a run's config.json describes, with fresh weights, and that config.json."""
    name = read_object(Path(run_dir) / "config.json").get("kind")
    kind = config_kind(name, of=str(run_dir))
    config = read_config(Path(run_dir), str(name))
    return build_model(from_json(kind, config["model"])), config


def load_model(run_dir: str | Path | None = None) -> StudentNet | Model:
    """Return the network of a run folder in evaluation mode; its `config` says what it takes and returns.

    Parameters
    ----------
    run_dir
        Folder of a pre-trained, fine-tuned or distilled run; None takes the student that ships.

    Raises
    ------
    FormatError, SampleError
        If the folder holds no such run, or its weights are of another architecture or not finite.
    """
    folder = SHIPPED_STUDENT if run_dir is None else Path(run_dir)
    if read_object(folder / "config.json").get("kind") == "student":
        return load_student(folder)[0]
    model, _ = fresh_model(folder)
    load_weights(model, folder / "model.safetensors")
    return model.eval()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return AdamW state as named tensors: `<parameter index>.<state name>`."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": torch.as_tensor(value) for index, slot in state.items() for name, value in slot.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimizer the state that `optimizer_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    whole = optimizer.state_dict()
    whole["state"] = state
    optimizer.load_state_dict(whole)
