"""`python -m tests.runtimes [BUNDLE]`: run the matrix on this machine and print what was found beside what is allowed.

Without a folder the shipped bundle is taken. Another one is read unchecked: this measures, it does not admit.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from export.gates.outputs import Outputs
from lsemvae.screen.bundle import open_bundle
from lsemvae.screen.manifest import Manifest
from lsemvae.screen.trust import load_trusted_keys
from tests.conftest import find_data_dir
from tests.runtimes.asking import Answers, Variant, ask_browser, ask_legacy, ask_python
from tests.runtimes.matrix import PAIRS, TOLERANCES, Pair, decided, difference
from tests.runtimes.page import COLUMNS, cells, row
from tests.runtimes.recordings import questions

FILES = ("model.tflite", "model.onnx", "golden.npz")


def load(folder: Path | None) -> tuple[Manifest, Mapping[str, bytes]]:
    """Return manifest and files of the shipped bundle or of a folder."""
    if folder is None:
        bundle = open_bundle(None, trusted_keys=load_trusted_keys())
        return bundle.manifest, bundle.files
    files = {name: (folder / name).read_bytes() for name in FILES}
    return Manifest.from_bytes((folder / "manifest.json").read_bytes()), files


def measured(pair: Pair, outputs: Mapping[str, Outputs], manifest: Manifest) -> str:
    """Return the row of one pair."""
    candidate, reference = outputs[pair.candidate], outputs[pair.reference]
    found = difference(candidate, reference, manifest=manifest)
    both = zip(decided(candidate, manifest=manifest), decided(reference, manifest=manifest), strict=True)
    known = str(manifest.provenance["recipe"]) in TOLERANCES
    allowed = pair.tolerance(manifest) if known else None
    return row(pair, cells(found, allowed), equal=sum(a == b for a, b in both), of=len(candidate.logits))


def main(arguments: list[str]) -> None:
    """Print versions, then one table: a row for each pair of runtimes."""
    manifest, files = load(Path(arguments[0]) if arguments else None)
    asked = questions(files["golden.npz"], manifest, data=find_data_dir())
    shipped = Variant("model", files["model.tflite"], files["model.onnx"], len(asked.ecg))
    with tempfile.TemporaryDirectory() as legacy, tempfile.TemporaryDirectory() as browser:
        parts: list[Answers] = [
            ask_python([shipped], asked),
            ask_legacy([shipped], asked, folder=Path(legacy)),
            ask_browser([shipped], asked, folder=Path(browser)).answers,
        ]
    outputs = {name: found[shipped.name] for part in parts for name, found in part.outputs.items()}
    lines = [f"{name}: {version}" for part in parts for name, version in part.versions.items()]
    lines += [f"{asked.n_golden} golden signals, {len(asked.ecg) - asked.n_golden} real recordings"]
    lines += [f"recipe {manifest.provenance['recipe']}", "", *COLUMNS]
    sys.stdout.write("\n".join([*lines, *(measured(pair, outputs, manifest) for pair in PAIRS)]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
