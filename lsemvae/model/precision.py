"""Arithmetic that keeps float32 under autocast: exponentials of log-variances and sums of divergences lose too much in 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

import torch
from torch import Tensor

_P = ParamSpec("_P")
_R = TypeVar("_R")
_HALF: Final = (torch.bfloat16, torch.float16)


def _widened(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.dtype in _HALF else value


def in_float32(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run `function` with autocast off and 16-bit tensor arguments widened; float32 and float64 pass as they are."""

    @wraps(function)
    def wide(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        device = next((a.device.type for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), "cpu")
        with torch.autocast(device, enabled=False):
            return function(*map(_widened, args), **{k: _widened(v) for k, v in kwargs.items()})  # type: ignore[arg-type]

    return wide
