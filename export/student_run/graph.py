"""The graph that is exported: an inference-only copy of the student with BatchNorm folded into the convolutions.

The copy keeps the student's module tree, because the converters name tensors after it and the recipes choose the INT8
region by these names (`student.encoder`, `student.head`).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.errors import ExportModelError

BATCH = 1  # static: LiteRT.js refuses a dynamic batch, and a clinic scores one recording at a time
# Folding changes only float32 rounding; logits of trained students are of order 1 to 10.
FOLD_TOLERANCE = 1e-3
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm1d)


class ExportGraph(nn.Module):
    """The student behind a fixed signature: `ecg [1, lead, time]` in mV to `(logits [1, K], uncertainty [1, 1])`."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, ecg: Tensor) -> Any:
        """Return `(logits, uncertainty)`."""
        logits, uncertainty = self.student(ecg)
        return logits, uncertainty


class NamedExportGraph(ExportGraph):
    """The same graph with outputs by name, which litert-torch turns into the signature of the `.tflite` file."""

    def forward(self, ecg: Tensor) -> Any:
        """Return `{"logits", "uncertainty"}`."""
        logits, uncertainty = self.student(ecg)
        return {"logits": logits, "uncertainty": uncertainty}


def build_graph(student: nn.Module, *, n_leads: int, n_samples: int, named: bool = False) -> ExportGraph:
    """Return the export graph of a trained student; the student itself is left as it is.

    Raises
    ------
    ExportModelError
        If the model is no student, holds NaN or infinite weights, or does not survive the folding.
    """
    check_student(student)
    example = example_input(n_leads=n_leads, n_samples=n_samples)
    inference = copy.deepcopy(student).eval().requires_grad_(requires_grad=False)
    folded = fold_batch_norm(inference, example)
    with torch.no_grad():
        pairs = list(zip(inference(example), folded(example), strict=True))
    worst = max(float((before - after).abs().max()) for before, after in pairs)
    if not worst <= FOLD_TOLERANCE:
        raise ExportModelError(
            f"folding BatchNorm changed an output by {worst:.3g}; expected at most {FOLD_TOLERANCE:g} "
            "(is a convolution's output used beside its BatchNorm?)"
        )
    return (NamedExportGraph if named else ExportGraph)(folded).eval()


def example_input(*, n_leads: int, n_samples: int) -> Tensor:
    """Return a deterministic `[1, lead, time]` input of about 1 mV, used for tracing and for checks."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(BATCH, n_leads, n_samples, generator=generator)


def check_student(student: nn.Module) -> None:
    """Raise unless the model has the two regions and finite weights."""
    missing = [name for name in ("encoder", "head") if not isinstance(getattr(student, name, None), nn.Module)]
    if missing:
        raise ExportModelError(
            f"{type(student).__name__} has no module {' and no module '.join(missing)}; "
            "an exportable student has `encoder` (INT8) and `head` (float)"
        )
    bad = [name for name, tensor in student.state_dict().items() if not torch.isfinite(tensor.float()).all()]
    if bad:
        raise ExportModelError(
            f"{len(bad)} tensors of the checkpoint hold NaN or infinity, first: {', '.join(bad[:3])}"
        )


def fold_batch_norm(model: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy in which each Conv1d absorbs the BatchNorm1d that reads its output.

    The pairs are found by running the model once and seeing which norm receives which convolution's output, so any
    naming and nesting of the modules works. `torch.nn.utils.fusion` does the arithmetic:
    `w' = w * gamma / sqrt(var + eps)`, `b' = (b - mean) * gamma / sqrt(var + eps) + beta`.
    """
    folded = copy.deepcopy(model)
    for conv_name, norm_name in _conv_norm_pairs(folded, example):
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv1d)  # only these two kinds are watched
        assert isinstance(norm, nn.BatchNorm1d)
        fused = fuse_conv_bn_eval(conv, norm)
        folded.set_submodule(conv_name, fused)
        folded.set_submodule(norm_name, nn.Identity())
    left = [name for name, module in folded.named_modules() if isinstance(module, _NORMS)]
    if left:
        raise ExportModelError(f"norm layers that do not directly follow a Conv1d cannot be folded: {', '.join(left)}")
    return folded


def _conv_norm_pairs(model: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    produced: list[tuple[Tensor, str]] = []  # holds the tensors, so that their identities stay unique during the run
    pairs: list[tuple[str, str]] = []

    def saw_conv(name: str) -> Any:
        return lambda _module, _args, output: produced.append((output, name))

    def saw_norm(name: str) -> Any:
        return lambda _module, args, _output: pairs.extend((conv, name) for out, conv in produced if out is args[0])

    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv1d):
            hooks.append(module.register_forward_hook(saw_conv(name)))
        elif isinstance(module, nn.BatchNorm1d):
            hooks.append(module.register_forward_hook(saw_norm(name)))
    try:
        with torch.no_grad():
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs
