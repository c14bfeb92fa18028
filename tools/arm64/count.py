"""Count what one inference of a model executes on each board's core, under an emulator, and keep it for `lsemvae benchmark`.

    python -m tools.arm64.count [BUNDLE] [--run RUN] [--sizes xs,s,m,l,xl] [--write]

BUNDLE is a folder or zip; without it, the shipped one with its packaged student. Each model of it (and with --run the
student's float form) is run here and under emulated Cortex-A72, A76 and A53 cores; the answers must agree. --sizes counts
students of these sizes with random weights instead: a count depends on the graph, not on what the weights are. --write adds
the counts to export/benchmark/projected/counts.json, where `lsemvae benchmark --device pi4` finds them.

needs: x86-64 Linux; the programs qemu-aarch64, mmdebstrap, gcc and setarch (sudo apt install qemu-user mmdebstrap gcc
libc6-dev debian-archive-keyring); the Python package capstone; the network once, for a Debian of about 80 MB and aarch64
wheels of about 150 MB, which are kept in ~/.cache/lsemvae/arm64. About 20 s for each model.
"""

from __future__ import annotations

import argparse
import io
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from export.benchmark.devices import BOARDS
from export.benchmark.projected.counts import COUNTS_FILE, COUNTS_SCHEMA, read_graph
from export.int8.quantize_tflite import collect_ranges, quantize_tflite
from export.int8.recipe import load_recipe
from export.steps import float_files
from export.student_run.packaged import PACKAGED_RUN
from lsemvae.ecg.errors import EcgError
from lsemvae.formats.whole import write_whole
from lsemvae.model.student import StudentNet
from lsemvae.model.student_sizes import SIZES, student_config
from lsemvae.screen.bundle import open_bundle
from lsemvae.terminal.options import trusted_keys
from lsemvae.train.checkpoint import read_config, save_tensors
from lsemvae.train.run import write_json
from tools.arm64.emulate import emulate
from tools.arm64.root import ensure_root

WHAT: Final = (
    "What one inference of a graph executes on a board's core: instructions and classes of opcodes, counted under an emulator by "
    "tools/arm64/count.py. No clock was read. The key is the hash of the graph (export/benchmark/projected/counts.py)."
)
RANDOM: Final = "with random weights"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Model:
    """A model file to count; `is_float_form` where it is the same network as the `.tflite` file before it, in float32."""

    what: str
    runtime: str
    content: bytes
    is_float_form: bool = False


def bundle_models(bundle: Path | None, run: Path | None, *, trust: Path | None, say: Say) -> Iterator[Model]:
    """Yield the models of a bundle and, where its student's run folder is named, the float form of that student."""
    opened = open_bundle(bundle, trusted_keys=trusted_keys(trust))
    name = f"{opened.manifest.id} {opened.manifest.version}"
    for target, file in sorted(opened.manifest.models.items(), reverse=True):  # tflite first
        yield Model(f"{file} of {name}", {"tflite": "litert", "onnx": "onnx"}[target], opened.files[file])
        if target == "tflite" and run is not None:
            content = float_files(run, progress=say)["tflite"].read_bytes()
            yield Model(f"float form of the student of {name}", "litert", content, is_float_form=True)


def size_models(size: str, ecg: np.ndarray, *, say: Say) -> Iterator[Model]:
    """Yield the LiteRT models of a student of a size with random weights, quantized as an export without options does.

    Not its ONNX model: nothing is projected for ONNX Runtime, and its exporter leaves out what is zero only before training.
    `ecg` float32 `[n, lead, time]` mV gives the ranges of its tensors.
    """
    from export.convert import tflite_file

    packaged = read_config(PACKAGED_RUN, "student")
    student = StudentNet(student_config(size, tuple(packaged["labels"]), tuple(packaged["model"]["measures"])))
    recipe = load_recipe()
    with TemporaryDirectory() as name:
        run = Path(name) / size
        run.mkdir()
        write_json(run / "config.json", {**packaged, "model": asdict(student.config)})
        save_tensors(run / "model.safetensors", student.state_dict())
        floats = float_files(run, progress=say)
        named, log = floats["tflite"].with_name("model.named.tflite"), run / "log"
        ranges = collect_ranges(named, ecg, recipe=recipe, log=log)
        quantized = quantize_tflite(named, run / "model.int8.tflite", recipe=recipe, ranges=ranges, log=log)
        what = f"student of size {size} {RANDOM}"
        yield Model(f"{what}, INT8", "litert", tflite_file.strip_names(quantized.read_bytes()))
        yield Model(f"{what}, fp32", "litert", floats["tflite"].read_bytes(), is_float_form=True)


def count_models(models: Iterator[Model], ecg: np.ndarray, *, command: str, say: Say) -> dict[str, Any]:
    """Return an entry of the file for each graph, by its key; `ecg` float32 `[n, lead, time]` mV is what the models run on."""
    root = ensure_root(progress=say)
    entries: dict[str, Any] = {}
    int8_key = ""
    for model in models:
        graph = read_graph(model.content, runtime=model.runtime)
        boards = {}
        for board in BOARDS.values():
            say(f"{model.what}, {graph.title}: {board.qemu_cpu}")
            boards[board.name] = emulate(
                model.content, runtime=model.runtime, device=board, root=root, ecg=ecg
            ).to_dict()
        entries[graph.key] = {
            "what": model.what,
            "date": f"{datetime.now(tz=UTC):%Y-%m-%d}",
            "command": command,
            "operators": len(graph.operators),
            "float_form": None,
            "boards": boards,
        }
        if model.is_float_form:
            entries[int8_key]["float_form"] = graph.key
        elif model.runtime == "litert":
            int8_key = graph.key
    return entries


def merged(stored: dict[str, Any], entries: dict[str, Any]) -> str:
    """Return the text of the file with these entries added or replaced: a line a board, so that a change can be read."""
    graphs = {**stored.get("graphs", {}), **entries}
    lines = []
    for key, entry in sorted(graphs.items(), key=lambda pair: (pair[1]["what"], pair[0])):
        boards = ",\n".join(f"    {json.dumps(name)}: {json.dumps(seen)}" for name, seen in entry["boards"].items())
        fields = "".join(
            f"   {json.dumps(name)}: {json.dumps(value)},\n" for name, value in entry.items() if name != "boards"
        )
        lines.append(f'  {json.dumps(key)}: {{\n{fields}   "boards": {{\n{boards}\n   }}\n  }}')
    head = f' "schema": {json.dumps(COUNTS_SCHEMA)},\n "what": {json.dumps(WHAT)},\n'
    return f'{{\n{head} "graphs": {{\n' + ",\n".join(lines) + "\n }\n}\n"


def main(argv: list[str] | None = None) -> int:
    """Count, show what was counted, and with --write keep it."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.arm64.count", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", nargs="?", type=Path, help="bundle folder or zip; the shipped one without it")
    parser.add_argument("--run", type=Path, help="run folder of the bundle's student, for its float form")
    parser.add_argument("--trust", type=Path, help="folder with the public keys that may have signed the bundle")
    parser.add_argument("--sizes", default="", help=f"student sizes instead of a bundle, some of {','.join(SIZES)}")
    parser.add_argument("--write", action="store_true", help=f"add the counts to {COUNTS_FILE.name}")
    args = parser.parse_args(argv)
    command = shlex.join(["python", "-m", "tools.arm64.count", *(sys.argv[1:] if argv is None else argv)])
    try:
        with np.load(
            io.BytesIO(open_bundle(args.bundle, trusted_keys=trusted_keys(args.trust)).files["golden.npz"])
        ) as golden:
            ecg = np.ascontiguousarray(golden["ecg"], dtype=np.float32)
        run = args.run if args.run is not None or args.bundle is not None else PACKAGED_RUN
        asked = [size for size in args.sizes.split(",") if size]
        jobs = [size_models(size, ecg, say=_say) for size in asked] or [
            bundle_models(args.bundle, run, trust=args.trust, say=_say)
        ]
        for models in jobs:
            entries = count_models(models, ecg, command=command, say=_say)
            for entry in entries.values():
                for name, seen in entry["boards"].items():
                    sys.stdout.write(f"{seen['instructions']:>12,}  {name:<7} {seen['runtime']:<7} {entry['what']}\n")
            if args.write:  # after each size, so that an interrupted run keeps what it has
                stored = json.loads(COUNTS_FILE.read_text(encoding="utf-8")) if COUNTS_FILE.is_file() else {}
                # Size m is the shipped graph: what was counted of a bundle's own file says more than random weights do.
                kept = {key for key, entry in stored.get("graphs", {}).items() if RANDOM not in entry["what"]}
                entries = {key: entry for key, entry in entries.items() if not (asked and key in kept)}
                write_whole(COUNTS_FILE, merged(stored, entries))
    except EcgError as error:
        sys.stderr.write(f"{error.code}: {error}\n{error.advice}\n")
        return 1
    return 0


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


if __name__ == "__main__":
    sys.exit(main())
