"""docs/reference/bundle.md: the files of a bundle, and every field of its manifest with the shipped bundle's value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from lsemvae import ecg
from lsemvae.screen import manifest
from tools.pages.docstring import GENERATED, meanings, summary

_FILES: Final = {
    "manifest.json": "everything a host must know; canonical JSON, signed",
    "manifest.sig": "Ed25519 signature of the manifest, 64 bytes",
    "model.tflite": "the model for LiteRT and TFLite",
    "model.onnx": "the model for ONNX Runtime",
    "model.strict.tflite": "the model with INT8 inputs and outputs, for microcontrollers",
    "strict.json": "how firmware feeds the strict model and reads its answer",
    "golden.npz": "synthetic recordings and the answers that they must give: the self-test of a host",
    "card.md": "the model card: what the labels are, every figure with its interval",
    "curves.png": "plots of the model card",
    "recipe.json": "how the INT8 file was made, and on which recordings it was calibrated",
    "report.json": "audit, agreement, latency and sizes of the export",
    "report.html": "the same as a page",
}
_TOP: Final = {
    "schema": "Name and major version of this format; another one is refused.",
    "id": "Name of the model. Versions are compared within one name and one key.",
    "version": "Version of the bundle, `1.2.3`. A host refuses one that is older than one it has used.",
    "created_utc": "Time of the export.",
    "min_host": "Least version of the host program that can run this bundle.",
    "intended_use": "What the model is for.",
    "label_statement": "What the labels are and what they are not; shown with every result.",
    "not_for": "Whom and what the model is not for.",
    "licence": "Licence of weights and code, and of the data it was trained on.",
    "files": "SHA-256 and size of every file but the manifest and its signature.",
    "input": "The model's input tensor.",
    "frontend": "The signal processing before the model, in numbers. Its hash is computed anew on the host and must agree.",
    "quality": "Limits of the quality gate.",
    "outputs": "The model's outputs, in the order of its logits. Exactly one is primary: it decides.",
    "models": "Model file by runtime, `tflite` or `onnx`; at least one.",
    "decision": "From logits to one of the four outcomes.",
    "performance": "Measured figures, one row for each label and data set.",
    "parity": "How far the INT8 files are from the float model, and the tolerance of the self-test.",
    "provenance": "How the model came about: data, folds, seeds, versions, settings.",
    "signature": "Algorithm, and the id of the key that signed.",
}
# Fields whose class does not describe them one by one.
_OWN: Final = {
    "FileEntry": {"sha256": "64 lower-case hexadecimal digits", "bytes": "size of the file"},
    "InputSpec": {
        "leads": "lead names in the order of the tensor",
        "fs_hz": "sampling rate in Hz; that of the front-end",
        "n_samples": "samples of each lead",
        "shape": "`[1, leads, samples]`",
        "unit": "always mV",
        "dtype": "always float32",
        "name": "name of the tensor",
    },
    "OutputSpec": {
        "label": "short name",
        "column": "name of its probability in tables: `p_` and the label",
        "primary": "whether this output decides",
        "description": "what a 1 means, in words",
    },
    "SignatureInfo": {"key_id": "first 16 digits of the SHA-256 of the public key", "alg": "always ed25519"},
    "FrontendSpec": {"coeff_sha256": "hash of the filter coefficients and of all fields above"},
    "Calibration": {"slope": "above 0", "intercept": "a number"},
}
_ROW: Final = {
    "label": "output",
    "dataset": "recordings that were scored, and how",
    "n": "number of recordings",
    "positives": "of those with the label",
    "negatives": "which recordings count as negative",
    "auroc": "area under the ROC curve: value, and the ends of its 95 % interval",
    "auprc": "area under the precision-recall curve",
    "sensitivity": "at the threshold: value, and the ends of its 95 % interval",
    "specificity": "the same",
    "brier": "mean squared error of the probability",
    "ece": "expected calibration error",
}
_PARITY: Final = {
    "golden_tolerance": "largest difference of a logit that the self-test of a host accepts",
    "reference": "what the INT8 files were compared with",
    "tflite_int8": "agreement of outcomes, change of AUROC, differences of logits and probabilities, on `n` recordings",
    "onnx_int8": "the same",
}
_PROVENANCE: Final = {
    "calibration_clipped": "calibration recordings that were left out because they reach the front-end's limit",
    "calibration_ids_sha256": "hash of the names of the calibration recordings",
    "calibration_records": "recordings on which the INT8 ranges were measured",
    "command": "the command that trained the run",
    "data_sha256": "hash of the training data",
    "decision": "on which outputs and recordings calibration and thresholds were fitted",
    "export_versions": "packages of the exporting machine",
    "folds_left_out": "folds that no training stage saw",
    "git_revision": "revision of the code that trained",
    "qat": "whether the student was fine-tuned for INT8",
    "recipe": "INT8 recipe",
    "seed": "seed of the training",
    "store_sha256": "hash of the record store",
    "validation_positives": "positives of each label among the validation recordings",
    "validation_records": "recordings on which the gates judged",
    "validation_unseen_in_training": "of those, never trained on",
    "versions": "packages of the training machine",
}


def page(root: Path) -> str:
    """Return the text of the page."""
    shipped = json.loads((root / "edge_app/bundle/manifest.json").read_bytes())
    lines = [
        GENERATED, "",
        "# The bundle", "",
        "A bundle is all that a host needs to screen recordings with a model: a folder, or a zip file with the same files in it. It is",
        "signed, and a host trusts nothing in it before the signature is checked. Values in the tables are those of the shipped bundle,",
        f"[edge_app/bundle](../../edge_app/bundle) {shipped['version']}. Commands: `lsemvae bundle show`, `lsemvae bundle verify`,",
        "`lsemvae bundle diff` ([commands.md](commands.md)). How one is made: [export](../explanation/export.md).", "",
        "## Files", "",
        "| file | what it holds |", "| --- | --- |",
        *(f"| `{name}` | {_FILES[name]} |" for name in sorted(manifest.ALLOWED_FILES, key=list(_FILES).index)), "",
        f"No other name and no folder is allowed; at most {manifest.MAX_FILES} files, {manifest.MAX_FILE_BYTES >> 20} MiB each,",
        f"{manifest.MAX_TOTAL_BYTES >> 20} MiB together. `manifest.json`, `manifest.sig`, `golden.npz` and one model are needed.", "",
        "## Checks of a host, in this order", "",
        "1. Sizes are within the limits above (`E_BUNDLE_SIZE`).",
        "2. Names are on the list; no links, no doubled names (`E_BUNDLE_PATH`).",
        "3. A trusted key signed the manifest (`E_BUNDLE_SIGNATURE`). The signed bytes are "
        f"`{manifest.SIGNATURE_PREFIX.decode('ascii').strip()}`, a line break, and the manifest.",
        "4. Each file has the hash that the manifest states (`E_BUNDLE_HASH`).",
        "5. The version is not older than one used before (`E_BUNDLE_VERSION`).",
        "6. The host is new enough (`E_BUNDLE_HOST`).",
        "7. The manifest is in canonical form and every field makes sense (`E_MANIFEST`).",
        "8. The model gives the golden answers on this machine (`E_BUNDLE_SELFTEST`).", "",
        "No model parser sees a byte before step 8. Only then is the version remembered.", "",
        "## The manifest", "",
        "Canonical JSON: sorted keys, no blanks, ASCII. Every field is needed. A host keeps fields of the top level that it does not know,",
        "and refuses unknown fields inside the parts below, because they could change what the numbers mean.", "",
        "| field | meaning | shipped |", "| --- | --- | --- |",
        *(f"| `{name}` | {text} | {_value(shipped[name])} |" for name, text in _top(shipped).items()), "",
    ]  # fmt: skip
    file_name = next(iter(sorted(shipped["files"])))
    for title, kind, values in (
        (f"Each entry of `files` (shown: `{file_name}`)", manifest.FileEntry, shipped["files"][file_name]),
        ("`input`", manifest.InputSpec, shipped["input"]),
        ("`frontend`", ecg.FrontendSpec, shipped["frontend"]),
        ("`quality`", ecg.QualityThresholds, shipped["quality"]),
        ("Each entry of `outputs` (shown: the primary one)", manifest.OutputSpec, _primary(shipped["outputs"])),
        ("`decision`", ecg.DecisionRule, shipped["decision"]),
        ("Each entry of `decision.calibrations`", ecg.Calibration, shipped["decision"]["calibrations"]["RHS"]),
        ("`signature`", manifest.SignatureInfo, shipped["signature"]),
    ):
        lines += _part(title, kind, values)
    lines += _free("Each row of `performance`", shipped["performance"][0], _ROW)
    lines += _free("`parity`", shipped["parity"], _PARITY)
    lines += _free("`provenance`", shipped["provenance"], _PROVENANCE)
    return "\n".join(lines).rstrip() + "\n"


def _top(shipped: Mapping[str, Any]) -> dict[str, str]:
    """Return the meaning of every field of the top level; one without a meaning is a KeyError."""
    names = ["schema", *(f.name for f in fields(manifest.Manifest) if f.name not in ("extra", "coeff_sha256"))]
    return {name: _TOP[name] for name in names if name in shipped}


def _part(title: str, kind: type, values: Mapping[str, Any]) -> list[str]:
    """Return the table of one part; a field that nobody describes is a KeyError."""
    told = {**meanings(kind), **_OWN.get(kind.__name__, {})}
    rows = [f"| `{name}` | {told[name].rstrip('.')} | {_value(value)} |" for name, value in _ordered(kind, values)]
    return [f"### {title}", "", summary(kind), "", "| field | meaning | shipped |", "| --- | --- | --- |", *rows, ""]


def _ordered(kind: type, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the values in the order of the class's fields; what the class does not know comes last."""
    names = [f.name for f in fields(kind)]
    return sorted(values.items(), key=lambda item: names.index(item[0]) if item[0] in names else len(names))


def _free(title: str, values: Mapping[str, Any], told: Mapping[str, str]) -> list[str]:
    """Return the table of a part whose fields are not fixed; those that the shipped bundle has and `told` lacks are a KeyError."""
    rows = [f"| `{name}` | {told[name]} | {_value(value)} |" for name, value in values.items()]
    note = "Other fields may stand here. A host shows them and decides nothing by them, except by `golden_tolerance`."
    return [f"### {title}", "", note, "", "| field | meaning | shipped |", "| --- | --- | --- |", *rows, ""]


def _primary(outputs: list[dict[str, Any]]) -> dict[str, Any]:
    return next(output for output in outputs if output["primary"])


def _value(value: Any) -> str:
    """Return a value for a table: short ones as they are, long ones as their size."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= 90:
        return f"`{text}`"
    if isinstance(value, str):
        return f"`{text[:70].rsplit(' ', 1)[0]} ...`"
    return f"{len(value)} entries"
