"""Putting a bundle together: hashes, canonical manifest, signature, and a rename that makes it appear whole or not."""

from __future__ import annotations

import glob
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from export.errors import ExportError, ExportTargetError
from export.release.signing import SigningKey
from export.student_run.identity import BundleIdentity
from export.student_run.source import DecisionSource, RunSource
from lsemvae.data.labels import prediction_column
from lsemvae.ecg.errors import BundlePathError
from lsemvae.ecg.thresholds import QualityThresholds
from lsemvae.formats.whole import write_whole
from lsemvae.screen.manifest import (
    MANIFEST_NAME,
    SIGNATURE_NAME,
    InputSpec,
    Manifest,
    OutputSpec,
    SignatureInfo,
    file_entry,
    safe_member,
)

MODEL_FILES: Final = {"tflite": "model.tflite", "onnx": "model.onnx"}
# Shorter ones ("/", "/a/") would be found in any binary file by chance.
_SHORTEST_PATH: Final = 5
# Writing a bundle takes less than a second.
_STALE_S: Final = 3600


def build_manifest(
    files: Mapping[str, bytes],
    *,
    source: RunSource,
    decision: DecisionSource,
    identity: BundleIdentity,
    parity: Mapping[str, Any],
    provenance: Mapping[str, Any],
    created_utc: str,
    key_id: str,
) -> Manifest:
    """Return the manifest over `files` (all of the bundle but manifest and signature)."""
    spec = source.frontend
    return Manifest(
        id=identity.id,
        version=identity.version,
        created_utc=created_utc,
        min_host=identity.min_host,
        intended_use=identity.intended_use,
        label_statement=identity.label_statement,
        not_for=identity.not_for,
        licence=identity.licence,
        files={name: file_entry(content) for name, content in files.items()},
        input=InputSpec(
            leads=source.leads, fs_hz=spec.fs_hz, n_samples=spec.n_samples, shape=(1, len(source.leads), spec.n_samples)
        ),
        frontend=spec,
        coeff_sha256=spec.sha256(),
        quality=QualityThresholds(),
        outputs=tuple(
            OutputSpec(
                label=label,
                column=prediction_column(label),
                primary=label == decision.rule.primary,
                description=identity.describe(label),
            )
            for label in source.labels
        ),
        models={target: name for target, name in MODEL_FILES.items() if name in files},
        decision=decision.rule,
        performance=decision.performance,
        parity=parity,
        provenance=provenance,
        signature=SignatureInfo(key_id=key_id),
    )


def signed_files(files: Mapping[str, bytes], manifest: Manifest, key: SigningKey) -> dict[str, bytes]:
    """Return `files` with the canonical manifest and its signature; the manifest is read back before it is signed."""
    content = manifest.to_bytes()
    if Manifest.from_bytes(content).to_bytes() != content:
        raise ExportError("the manifest does not survive being read; expected its canonical form")
    return {**files, MANIFEST_NAME: content, SIGNATURE_NAME: key.sign(content)}


def check_target(out: Path, *, force: bool) -> None:
    """Raise ExportTargetError unless a bundle may be written to `out`; only a bundle is ever replaced."""
    if not out.exists() and not out.is_symlink():  # said at once, not after minutes of conversion
        above = next(folder for folder in out.absolute().parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise ExportTargetError(
                f"{out} cannot be made: {above} is {'not writable' if above.is_dir() else 'no folder'}",
                advice="Name another folder with --out.",
            )
        return
    if out.is_symlink() or not out.is_dir():
        raise ExportTargetError(f"{out} is there and is no folder", advice="Name another folder with --out.")
    if not force:
        raise ExportTargetError(f"{out} is there already; expected a free name")
    entries, foreign = list(out.iterdir()), []
    for entry in entries:
        try:
            safe_member(entry.name)
        except BundlePathError:
            foreign.append(entry.name)
        else:
            foreign += [] if entry.is_file() else [entry.name]
    if entries and not foreign and not (out / MANIFEST_NAME).is_file():
        foreign = [entry.name for entry in entries]  # a card or a picture alone is somebody's own
    if foreign:
        raise ExportTargetError(
            f"{out} holds files that belong to no bundle (first: {min(foreign)}); it is not replaced",
            advice="Name another folder with --out.",
        )


def write_bundle(out: Path, files: Mapping[str, bytes], *, force: bool) -> None:
    """Write a bundle folder. Whatever happens, `out` is the old folder, nothing, or the whole new one."""
    check_target(out, force=force)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        staged = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
        try:
            for name, content in files.items():
                write_whole(staged / safe_member(name), content)
            staged.chmod(0o755)  # mkdtemp makes folders that only their owner may open
            _replace(staged, out)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        raise ExportTargetError(
            f"{out} cannot be written: {error}", advice="Check free space and permissions; nothing was changed."
        ) from error


def _sweep(out: Path) -> None:
    """Remove what an export to `out` left behind that was killed; what is young may be one that still runs."""
    name = glob.escape(out.name)
    left = [*out.parent.glob(f".{name}.????????.part")]
    if out.exists():  # else the old bundle, moved aside a moment before the end, is the only one there is
        left += out.parent.glob(f".{name}.{'[0-9a-f]' * 32}.old")
    for folder in left:
        if time.time() - folder.stat().st_mtime > _STALE_S:
            shutil.rmtree(folder, ignore_errors=True)


def _replace(staged: Path, out: Path) -> None:
    """Put the new folder in the place of the old one, if there is one; on failure the old one stands there again."""
    if not out.exists():
        staged.rename(out)
        return
    old = out.with_name(f".{out.name}.{uuid.uuid4().hex}.old")
    out.rename(old)
    try:
        staged.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old)


def check_private(files: Mapping[str, bytes], *, extra: tuple[Path, ...] = ()) -> None:
    """Raise ExportError if a file names a folder of this machine; it would tell strangers who built it, and where."""
    here = (Path.cwd(), Path.home(), Path(sys.prefix), Path(tempfile.gettempdir()), Path(__file__).parents[2], *extra)
    needles = {f"{path.resolve()}/".encode() for path in here}
    for name, content in files.items():
        found = sorted(needle.decode() for needle in needles if len(needle) >= _SHORTEST_PATH and needle in content)
        if found:
            raise ExportError(
                f"{name} names a folder of this machine: {found[0]}; expected no path",
                advice="Remove the path from the card or from bundle.json, then export again.",
            )
