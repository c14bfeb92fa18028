"""Measure one model file on the machine that this file lies on, and say it as one JSON object.

    python runner.py --model model.tflite --inputs golden.npz --threads 1,2,4 --runs 300 --warm-up-s 10 --json

It stands alone, so that it can be copied to a board: Python 3.9 or later, numpy, and ai_edge_litert, tflite_runtime or
onnxruntime; for the last, `onnx_options.py` of `lsemvae/screen/runtime` beside it. `--inputs` is an `.npz` with `ecg` float32
`[n, lead, time]` in mV; one inference is one recording in, logits and uncertainty out, as in the clinic. The last line of the
output is the object; a failure is an object too, with a code and advice, and the exit status is 2.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = "lsemvae-benchmark-run/1"
# The same file and interface; the second is the retired package that some boards still have.
RUNTIMES = {".tflite": ("ai_edge_litert", "tflite_runtime"), ".onnx": ("onnxruntime",)}
# How the clinic sets up ONNX Runtime; goes to a board with this file.
OPTIONS_NAME = "onnx_options.py"
PERCENTILES = (10, 50, 90, 99)
_FAILED = 2


class RunnerError(Exception):
    """The measurement cannot be made; `code` and `advice` go into the JSON object."""

    def __init__(self, code: str, message: str, *, advice: str) -> None:
        super().__init__(message)
        self.code = code
        self.advice = advice


def main(argv: list[str] | None = None) -> int:
    """Measure, write the object to standard output, return the exit status."""
    parser = argparse.ArgumentParser(description="Measure one model file on this machine.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--inputs", type=Path, required=True, help="npz with ecg [n, lead, time], float32 mV")
    parser.add_argument(
        "--threads", type=_thread_counts, default=[1, 2, 4], help="such as 1,2,4; more than cores are left out"
    )
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--warm-up-s", type=float, default=10.0, help="seconds before each thread count")
    parser.add_argument("--min-s", type=float, default=1.0, help="time at least so many seconds for each thread count")
    parser.add_argument("--cold-only", action="store_true", help="stop after the golden outputs: cold start and memory")
    parser.add_argument(
        "--started-monotonic-s", type=float, help="when the parent started this process, else from /proc"
    )
    parser.add_argument("--json", action="store_true", help="the object on one line")
    args = parser.parse_args(argv)
    try:
        said, status = measure(args), 0
    except RunnerError as error:
        said, status = _failure(error.code, str(error), error.advice), _FAILED
    except Exception as error:  # whatever it is, the caller gets an object that says so
        message = f"{type(error).__name__}: {error}"
        said, status = _failure("E_RUNNER", message, "This is not foreseen: report it with this message."), _FAILED
    sys.stdout.write((json.dumps(said, allow_nan=False) if args.json else json.dumps(said, indent=1)) + "\n")
    return status


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return everything that this process can say about the model on this machine.

    The order matters: the cold start comes first, memory is read before a second interpreter is loaded.
    """
    load_before = list(os.getloadavg())
    steps_ms: dict[str, float | None] = {}
    try:
        np = _timed(steps_ms, "numpy_import", lambda: import_module("numpy"))
    except ImportError as error:
        raise RunnerError(
            "E_NUMPY", f"numpy cannot be imported: {error}", advice="Install numpy for this Python: pip install numpy"
        ) from error
    empty = memory_kib()
    inputs = _timed(steps_ms, "inputs", lambda: _read_inputs(np, args.inputs))
    runtime = _timed(steps_ms, "import", lambda: _import_runtime(args.model.suffix))
    run = _timed(steps_ms, "load", lambda: _load(runtime, args.model, threads=1))
    _timed(steps_ms, "first_inference", lambda: _checked(run, inputs[:1]))
    started_s = _process_start_s() if args.started_monotonic_s is None else args.started_monotonic_s
    steps_ms["cold_start"] = None if started_s is None else 1e3 * (time.monotonic() - started_s)

    outputs = _outputs(np, run, inputs)
    before = state()
    cores = available_cores()
    counts = [] if args.cold_only else [n for n in args.threads if n <= cores]
    latency: dict[str, Any] = {}
    memory: dict[str, Any] | None = None
    for n in counts:
        timed = run if n == 1 else _load(runtime, args.model, threads=n)
        latency[str(n)] = time_runs(np, timed, inputs, runs=args.runs, warm_up_s=args.warm_up_s, min_s=args.min_s)
        memory = memory_kib() if n == 1 else memory
    version = getattr(runtime, "__version__", None)
    if not version:
        from importlib import metadata

        try:
            version = metadata.version(runtime.__name__.replace("_", "-"))
        except metadata.PackageNotFoundError:
            version = "unknown"
    return {
        "schema": SCHEMA,
        "model": {
            "file": args.model.name,
            "bytes": args.model.stat().st_size,
            "sha256": _sha256(args.model.read_bytes()),
        },
        "runtime": {"name": runtime.__name__, "version": str(version)},
        "machine": machine(np, cores),
        "steps_ms": steps_ms,
        "latency": latency,
        "threads_left_out": [] if args.cold_only else [n for n in args.threads if n > cores],
        "memory_kib": {"empty": empty, "used": memory or memory_kib()},
        "outputs": outputs,
        "state": {"loadavg_at_start": load_before, "before": before, "after": state()},
    }


def time_runs(
    np: Any, run: Callable[[Any], Any], inputs: Any, *, runs: int, warm_up_s: float, min_s: float
) -> dict[str, Any]:
    """Time one recording after the other, `runs` times at least and `min_s` seconds at least; milliseconds."""
    records = [inputs[k : k + 1] for k in range(len(inputs))]
    busy_before_s, own_before_s, start_s = busy_s(), own_s(), time.monotonic()
    _repeat(run, records, until_s=start_s + warm_up_s, at_least=20)
    frequency_start = _frequency_khz()
    times_s = _repeat(run, records, until_s=time.monotonic() + min_s, at_least=runs)
    frequency_end = _frequency_khz()
    others = others_cores(busy_before_s, own_before_s, start_s)
    ms = 1e3 * np.array(times_s)
    return {
        **{f"p{q}_ms": float(np.percentile(ms, q)) for q in PERCENTILES},
        "mean_ms": float(ms.mean()),
        "min_ms": float(ms.min()),
        "runs": len(times_s),
        "warm_up_s": warm_up_s,
        "others_cores": others,
        "frequency_khz": [frequency_start, frequency_end],
    }


def _repeat(run: Callable[[Any], Any], records: list[Any], *, until_s: float, at_least: int) -> list[float]:
    taken: list[float] = []
    while len(taken) < at_least or time.monotonic() < until_s:
        record = records[len(taken) % len(records)]
        start = time.perf_counter()
        run(record)
        taken.append(time.perf_counter() - start)
    return taken


# ---- the model -------------------------------------------------------------------------------------------------------


def _read_inputs(np: Any, path: Path) -> Any:
    try:
        with np.load(path, allow_pickle=False) as archive:
            ecg = np.ascontiguousarray(archive["ecg"], dtype=np.float32)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise RunnerError(
            "E_INPUT", f"{path.name} has no array 'ecg': {error}", advice="Give a bundle's golden.npz."
        ) from error
    if ecg.ndim != 3 or not len(ecg) or not np.isfinite(ecg).all():
        raise RunnerError(
            "E_INPUT",
            f"found ecg {ecg.shape}, expected finite [recording, lead, time]",
            advice="Give a bundle's golden.npz.",
        )
    return ecg


def _import_runtime(suffix: str) -> Any:
    if suffix not in RUNTIMES:
        raise RunnerError(
            "E_MODEL", f"found a model file {suffix!r}, expected .tflite or .onnx", advice="Give a model file."
        )
    tried = []
    for name in RUNTIMES[suffix]:
        try:
            if suffix == ".tflite":
                import_module(name + ".interpreter")
            return import_module(name)
        except ImportError as error:
            tried.append(f"{name} ({error})")
    package = RUNTIMES[suffix][0].replace("_", "-")
    raise RunnerError(
        "E_RUNTIME",
        f"no runtime for {suffix} files; tried {', '.join(tried)} in Python {platform.python_version()}",
        advice=f"Install one for the Python that runs this: pip install {package}",
    )


def _load(runtime: Any, model: Path, *, threads: int) -> Callable[[Any], tuple[Any, Any]]:
    """Return a function from one recording to (logits, uncertainty)."""
    try:
        content = model.read_bytes()
        return (_onnx if model.suffix == ".onnx" else _tflite)(runtime, content, threads)
    except Exception as error:  # the runtimes raise what they like, SystemError where numpy 2 meets tflite-runtime 2.14
        raise RunnerError(
            "E_MODEL",
            f"{model.name} cannot be loaded by {runtime.__name__}: {type(error).__name__}: {error}",
            advice="Check the file; tflite-runtime 2.14 needs numpy<2.",
        ) from error


def _tflite(runtime: Any, content: bytes, threads: int) -> Callable[[Any], tuple[Any, Any]]:
    interpreter = sys.modules[runtime.__name__ + ".interpreter"].Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    entry = int(interpreter.get_input_details()[0]["index"])
    # By the names of the signature, never by position: converters reorder outputs.
    details = interpreter.get_signature_runner().get_output_details()
    logits, uncertainty = (int(details[name]["index"]) for name in ("logits", "uncertainty"))

    def run(ecg: Any) -> tuple[Any, Any]:
        interpreter.set_tensor(entry, ecg)
        interpreter.invoke()
        return interpreter.get_tensor(logits), interpreter.get_tensor(uncertainty)

    return run


def _onnx(runtime: Any, content: bytes, threads: int) -> Callable[[Any], tuple[Any, Any]]:
    import runpy  # here, because its import would count towards the cold start of the other runtime

    # The clinic's own set-up: its file lies beside this one on a board, and in the package elsewhere.
    path = Path(__file__).resolve().with_name(OPTIONS_NAME)
    path = path if path.is_file() else path.parents[3] / "lsemvae" / "screen" / "runtime" / OPTIONS_NAME
    options = runpy.run_path(str(path))["session_options"](runtime, threads)
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(ecg: Any) -> tuple[Any, Any]:
        logits, uncertainty = session.run(["logits", "uncertainty"], {"ecg": ecg})
        return logits, uncertainty

    return run


def _checked(run: Callable[[Any], tuple[Any, Any]], ecg: Any) -> tuple[Any, Any]:
    try:
        return run(ecg)
    except Exception as error:  # as in _load
        raise RunnerError(
            "E_MODEL",
            f"the model does not take {list(ecg.shape)}: {type(error).__name__}: {error}",
            advice="Give the model and the golden.npz of one bundle.",
        ) from error


def _outputs(np: Any, run: Callable[[Any], tuple[Any, Any]], inputs: Any) -> dict[str, Any]:
    pairs = [_checked(run, inputs[k : k + 1]) for k in range(len(inputs))]
    logits, uncertainty = (
        np.concatenate([np.array(pair[k], dtype="<f4").reshape(1, -1) for pair in pairs]) for k in (0, 1)
    )
    if not (np.isfinite(logits).all() and np.isfinite(uncertainty).all()):
        raise RunnerError(
            "E_OUTPUT", "found NaN or infinity in the outputs", advice="Do not use this model on this machine."
        )
    digest = _sha256(logits.tobytes() + uncertainty.tobytes())
    return {"logits": logits.tolist(), "uncertainty": uncertainty.tolist(), "sha256": digest}


# ---- the machine -----------------------------------------------------------------------------------------------------


def machine(np: Any, cores: int) -> dict[str, Any]:
    """Return what does not change while the model runs."""
    revision = re.search(r"^Revision\s*:\s*(\S+)", _text("/proc/cpuinfo") or "", re.MULTILINE)
    return {
        "board": _text("/proc/device-tree/model"),
        "revision": revision.group(1) if revision else None,
        "architecture": platform.machine(),
        "cores": cores,
        "kernel": platform.release(),
        "system": platform.system(),
        "page_bytes": os.sysconf("SC_PAGE_SIZE"),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def state() -> dict[str, Any]:
    """Return what may change while the model runs: load, clocks, temperature, throttling; null where it cannot be known."""
    governors = {
        _text(str(path)) for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    }
    throttled = re.search(r"throttled=(0x[0-9a-fA-F]+)", _vcgencmd("get_throttled"))
    degrees = re.search(r"temp=([0-9.]+)", _vcgencmd("measure_temp"))
    zone = _text("/sys/class/thermal/thermal_zone0/temp") or ""
    return {
        "loadavg": list(os.getloadavg()),
        "governors": sorted(name for name in governors if name),
        "frequency_khz": _frequency_khz(),
        "frequency_max_khz": _frequency_khz("scaling_max_freq"),
        "throttled": int(throttled.group(1), 16) if throttled else None,
        "temperature_c": float(degrees.group(1)) if degrees else (int(zone) / 1000 if zone.isdigit() else None),
    }


def memory_kib() -> dict[str, int | None]:
    """Return this process's high-water mark of resident memory and its proportional share now, in KiB."""
    return {
        "hwm": _kib("/proc/self/status", "VmHWM"),
        "rss": _kib("/proc/self/status", "VmRSS"),
        "pss": _kib("/proc/self/smaps_rollup", "Pss"),
    }


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _kib(path: str, field: str) -> int | None:
    found = re.search(rf"^{field}:\s+(\d+) kB", _text(path) or "", re.MULTILINE)
    return int(found.group(1)) if found else None


def _frequency_khz(name: str = "scaling_cur_freq") -> int | None:
    """Return the highest clock of all cores: the one that works runs at least as fast as those that wait."""
    found = [_text(str(path)) or "" for path in Path("/sys/devices/system/cpu").glob(f"cpu[0-9]*/cpufreq/{name}")]
    return max((int(text) for text in found if text.isdigit()), default=None)


def others_cores(busy_before_s: float | None, own_before_s: float, start_s: float) -> float | None:
    """Return how many cores other programs used since the three readings (`busy_s`, `own_s`, `time.monotonic`)."""
    busy_now_s = busy_s()
    if busy_before_s is None or busy_now_s is None:
        return None
    used_s = busy_now_s - busy_before_s - (own_s() - own_before_s)
    return max(0.0, used_s / (time.monotonic() - start_s))


def busy_s() -> float | None:
    """Seconds that all cores together were not idle since boot (proc(5): user, nice, system, irq, softirq, steal)."""
    fields = (_text("/proc/stat") or "").split("\n", 1)[0].split()[1:]
    if len(fields) < 8:
        return None
    return sum(int(fields[k]) for k in (0, 1, 2, 5, 6, 7)) / os.sysconf("SC_CLK_TCK")


def own_s() -> float:
    """Processor seconds of this process and of its children that have ended."""
    taken = os.times()
    return taken.user + taken.system + taken.children_user + taken.children_system


def _process_start_s() -> float | None:
    """Start of this process on the clock of `time.monotonic`; proc(5) counts it in ticks of 10 ms from boot."""
    text = _text("/proc/self/stat")
    if text is None or not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    start_ticks = int(text.rpartition(")")[2].split()[19])  # field 22; the name in field 2 may hold blanks
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - age_s


def _vcgencmd(question: str) -> str:
    """Ask the Raspberry Pi's firmware; empty where there is no such program."""
    import subprocess  # here, because its import would count towards the cold start

    try:
        done = subprocess.run(["vcgencmd", question], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _timed(steps_ms: dict[str, float | None], name: str, step: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = step()
    steps_ms[name] = 1e3 * (time.perf_counter() - start)
    return result


def _failure(code: str, message: str, advice: str) -> dict[str, Any]:
    return {"schema": SCHEMA, "error": {"code": code, "message": message, "advice": advice}}


def _thread_counts(text: str) -> list[int]:
    counts = sorted({int(part) for part in text.split(",")})
    if counts[0] < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected counts of 1 or more, such as 1,2,4")
    return counts


if __name__ == "__main__":
    sys.exit(main())
