"""`edge_app bundle`: what a model bundle says about itself, and whether this machine accepts it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from lsemvae.terminal.console import reports_errors, say, say_json
from lsemvae.terminal.options import DataDir, Json, Trust, trusted_keys

app = typer.Typer(no_args_is_help=True, help="Look at a model bundle, or check it.")

Location = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Argument(help="Bundle directory or .zip; the shipped bundle where none is given.", show_default=False),
]


@app.command("show")
@reports_errors
def show_bundle(path: Location = None, as_json: Json = False, trust: Trust = None) -> None:
    """Show what a signed bundle says about itself: use, outputs, performance, origin."""
    from lsemvae.screen.bundle import open_bundle

    bundle = open_bundle(path, trusted_keys=trusted_keys(trust))
    if as_json:
        say_json(bundle.manifest.to_dict())
        return
    manifest = bundle.manifest
    size = sum(len(content) for content in bundle.files.values())
    models = ", ".join(f"{name} ({file})" for name, file in sorted(manifest.models.items()))
    say(f"{manifest.id} {manifest.version}, made {manifest.created_utc}, signed with key {bundle.key_id}")
    say(f"Statement: {manifest.label_statement}")
    say(f"Use: {manifest.intended_use}")
    say(f"Not for: {'; '.join(manifest.not_for)}")
    say(f"Input: {', '.join(manifest.input.leads)} at {manifest.input.fs_hz:g} Hz, {manifest.input.n_samples} samples")
    say(f"Models: {models}")
    say(f"Files: {len(bundle.files)}, {size} bytes; needs app version {manifest.min_host} or newer; {manifest.licence}")
    say("Outputs:")
    for output in manifest.outputs:
        say(f"  {output.column}: {output.description}{' (primary)' if output.primary else ''}")


@app.command("verify")
@reports_errors
def verify_bundle(path: Location = None, as_json: Json = False, trust: Trust = None, data_dir: DataDir = None) -> None:
    """Check a bundle as the app does before it screens: signature, hashes, versions, and a self-test of each model."""
    from lsemvae.ecg.errors import RuntimeMissingError
    from lsemvae.screen.bundle import open_bundle
    from lsemvae.screen.datadir import data_dir as choose
    from lsemvae.screen.ratchet import VersionRatchet
    from lsemvae.screen.runtime.load import FORMATS, load_runtime
    from lsemvae.screen.selftest import self_test

    bundle = open_bundle(path, trusted_keys=trusted_keys(trust), ratchet=VersionRatchet(choose(data_dir)))
    manifest = bundle.manifest
    # The model that the app would run, and every other whose runtime is installed.
    tests: dict[str, dict[str, Any]] = {}
    missing: RuntimeMissingError | None = None
    for format_ in (name for name in FORMATS if name in manifest.models):
        try:
            runtime = load_runtime(bundle, prefer=format_)
        except RuntimeMissingError as error:
            missing = error
            tests[format_] = {"tested": False, "reason": str(error)}
            continue
        measured = self_test(bundle, runtime).to_dict()
        tests[format_] = {"tested": True, "runtime": f"{runtime.name} {runtime.version}"} | measured
    if missing is not None and not any(test["tested"] for test in tests.values()):
        raise missing
    if as_json:
        say_json(
            {"id": manifest.id, "version": manifest.version, "key_id": bundle.key_id, "accepted": True, "tests": tests}
        )
        return
    say(f"{manifest.id} {manifest.version}: accepted, signed with key {bundle.key_id}")
    for name, test in tests.items():
        line = (
            f"not tested ({test['reason']})"
            if not test["tested"]
            else (
                f"self-test passed on {test['runtime']}: {test['recordings']} golden recordings, "
                f"largest logit difference {test['max_logit_error']:.3g} (allowed {test['logit_tolerance']:.3g})"
            )
        )
        say(f"  {name}: {line}")
