"""Start the runner in a fresh process of this machine, and read what a runner said, here or on a board."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from export.benchmark.errors import BenchmarkError
from export.benchmark.measured.runner import SCHEMA
from lsemvae.screen.runtime import onnx_options

RUNNER: Final = Path(__file__).with_name("runner.py")
# What a board needs of this project: the runner, and how the clinic sets up ONNX Runtime.
BOARD_PROGRAMS: Final = (RUNNER, Path(onnx_options.__file__))
# A run with 8 golden recordings says about 5,000 characters.
MAX_ANSWER_CHARS: Final = 1_000_000
_SHOWN_CHARS: Final = 300
# On top of the timed seconds: imports, loading and 300 runs of a model of 100 ms on a slow machine.
ALLOWANCE_S: Final = 120.0

_NUMBER: Final = (int, float)
_OPTIONAL_INT: Final = (int, type(None))
_OPTIONAL_NUMBER: Final = (int, float, type(None))
_MEMORY: Final = {"hwm": _OPTIONAL_INT, "rss": _OPTIONAL_INT, "pss": _OPTIONAL_INT}
_STATE: Final = {
    "governors": [str],
    "frequency_max_khz": _OPTIONAL_INT,
    "throttled": _OPTIONAL_INT,
    "temperature_c": _OPTIONAL_NUMBER,
}
_LATENCY: Final = {
    **{f"{key}_ms": _NUMBER for key in ("p10", "p50", "p90", "p99", "mean")},
    "runs": int, "others_cores": _OPTIONAL_NUMBER, "frequency_khz": [_OPTIONAL_INT],
}  # fmt: skip
_RUN: Final = {
    "model": {"file": str, "bytes": int, "sha256": str},
    "runtime": {"name": str, "version": str},
    "machine": {
        "board": (str, type(None)), "architecture": str, "cores": int, "kernel": str, "page_bytes": int, "python": str,
        "numpy": str,
    },
    "steps_ms": {"import": _NUMBER, "load": _NUMBER, "first_inference": _NUMBER, "cold_start": _OPTIONAL_NUMBER},
    "latency": dict,
    "threads_left_out": [int],
    "memory_kib": {"empty": _MEMORY, "used": _MEMORY},
    "outputs": {"logits": [[_NUMBER]], "uncertainty": [[_NUMBER]], "sha256": str},
    "state": {"loadavg_at_start": [_NUMBER], "before": _STATE, "after": _STATE},
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and with how many threads a runner measures.

    Attributes
    ----------
    runs
        Timed inferences for each thread count, at least.
    warm_up_s, min_s
        Seconds before, and at least so many seconds of, the timed inferences for each thread count.
    """

    threads: Sequence[int] = (1, 2, 4)
    runs: int = 300
    warm_up_s: float = 1.0
    min_s: float = 1.0

    def __post_init__(self) -> None:
        counts = list(self.threads)
        if not counts or min(counts) < 1 or self.runs < 1 or self.warm_up_s < 0 or self.min_s < 0:
            raise BenchmarkError(
                f"found threads {counts}, {self.runs} runs, {self.warm_up_s} and {self.min_s} s; expected thread counts and "
                "runs of at least 1, and seconds of at least 0"
            )

    def arguments(self, *, cold_only: bool = False) -> list[str]:
        """Return the runner's options, without the files."""
        options = ["--threads", ",".join(map(str, self.threads)), "--runs", str(self.runs)]
        options += ["--warm-up-s", f"{self.warm_up_s:g}", "--min-s", f"{self.min_s:g}", "--json"]
        return [*options, *(["--cold-only"] if cold_only else [])]

    @property
    def limit_s(self) -> float:
        """How long the runner may take before it counts as hung."""
        return ALLOWANCE_S + 2.0 * len(self.threads) * (self.warm_up_s + self.min_s)


def run_here(model: Path, inputs: Path, plan: Plan, *, cold_only: bool = False) -> dict[str, Any]:
    """Run the runner in a fresh interpreter of this environment and return its object.

    `-P` keeps the runner's own folder out of the module path, where its neighbours would hide packages of the same name.
    """
    command = [sys.executable, "-P", str(RUNNER), "--model", str(model), "--inputs", str(inputs)]
    command += [*plan.arguments(cold_only=cold_only), "--started-monotonic-s", repr(time.monotonic())]
    return parse_run(run_child(command, limit_s=plan.limit_s))


def run_child(command: Sequence[str], *, limit_s: float = ALLOWANCE_S, env: Mapping[str, str] | None = None) -> str:
    """Return the standard output of `python -P SCRIPT ...`; its standard error is kept for the message."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False, env=env)
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"found no answer of {Path(command[2]).name} after {limit_s:g} s, expected one") from error
    if not done.stdout.strip():
        raise BenchmarkError(
            f"{Path(command[2]).name} ended with status {done.returncode} and said nothing on standard output, expected "
            f"a JSON object; standard error ends: {clip(done.stderr[-_SHOWN_CHARS:])}"
        )
    return done.stdout


def parse_run(text: str, *, error: type[BenchmarkError] = BenchmarkError, where: str = "the runner") -> dict[str, Any]:
    """Return the object of a runner's output, or raise what the runner says went wrong.

    Only the last line that starts like an object counts: a login shell may greet before it.
    """
    found = parse_object(text, error=error, where=where)
    if found.get("schema") != SCHEMA:
        raise error(f"{where}: found schema {clip(repr(found.get('schema')))}, expected {SCHEMA!r}")
    if isinstance(failed := found.get("error"), dict):
        raise error(
            f"{where}: {clip(str(failed.get('code')))}: {clip(str(failed.get('message')))}",
            advice=clip(str(failed.get("advice"))),
        )
    try:
        _check(found, _RUN, "run")
        for threads, taken in found["latency"].items():
            _check(taken, _LATENCY, f"latency of {threads} threads")
    except _ShapeError as shape:
        raise error(f"{where}: found another object than a runner's: {shape}") from shape
    return dict(_printable(found))


def clip(text: str, limit: int = _SHOWN_CHARS) -> str:
    """Return text of another program as one printable line of bounded length."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def parse_object(
    text: str, *, error: type[BenchmarkError] = BenchmarkError, where: str = "the runner"
) -> dict[str, Any]:
    """Return the JSON object on the last line that starts like one, or raise with what was found."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if len(text) > MAX_ANSWER_CHARS or not lines:
        raise error(f"{where}: found {len(text)} characters ({clip(text) or 'nothing'}), expected one JSON object")
    try:
        found = json.loads(lines[-1], parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as broken:
        raise error(f"{where}: found no JSON ({clip(lines[-1], 120)}), expected one object") from broken
    assert isinstance(found, dict)  # the line starts with a brace
    return found


def _printable(value: Any) -> Any:
    """Return the value with every text as one bounded printable line: a board's words end up in terminals and reports."""
    if isinstance(value, str):
        return clip(value)
    if isinstance(value, dict):
        return {clip(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


class _ShapeError(Exception):
    """A part of a runner's object is missing or of another type."""


def _check(value: Any, shape: Any, path: str) -> None:
    if isinstance(shape, dict):
        _check(value, dict, path)
        for key, part in shape.items():
            if key not in value:
                raise _ShapeError(f"{path} has no {key!r}")
            _check(value[key], part, f"{path}.{key}")
    elif isinstance(shape, list):
        _check(value, list, path)
        for item in value:
            _check(item, shape[0], f"{path}[]")
    elif not isinstance(value, shape) or isinstance(value, bool) or (isinstance(value, float) and math.isinf(value)):
        raise _ShapeError(f"{path} is {clip(repr(value), 60)}")
