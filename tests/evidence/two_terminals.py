"""Two terminals: `edge_app devices simulate` plays a real ECG, `edge_app devices record` stores it; compare every sample.

    python -m tests.evidence.two_terminals --data DIR --out docs/evidence/two_terminals.json

Once undisturbed, and once with the simulator killed (SIGKILL) and started again in the middle. Real time, real processes,
real bleak over a private D-Bus and a virtual radio; the ECG is a recording of PTB-XL, the label of which plays no part.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edge_app.store.records import STORE_FILE, ClinicStore
from lsemvae.data.folder import EcgFolder
from lsemvae.ecg.record import EcgRecord
from lsemvae.formats.npz import write_npz
from tests.edge_app.devices.conftest import APP, Simulator, finished, largest_difference_lsb, until_recorded


def undisturbed(ecg: EcgRecord, path: Path, environment: dict[str, str], *, seconds: int) -> dict[str, Any]:
    """Record `seconds` of the simulated device."""
    simulator = Simulator(environment, "--record", str(path))
    try:
        values = json.loads(finished(_record(environment, seconds))[0])
    finally:
        simulator.close()
    record = _stored(values, environment)
    return {
        **_figures(record, values),
        "largest_difference_lsb": largest_difference_lsb(record, ecg, [(0, record.n_samples, 0)]),
    }


def killed(ecg: EcgRecord, path: Path, environment: dict[str, str], *, seconds: int) -> dict[str, Any]:
    """The same with the simulator killed after a third and started again."""
    first = Simulator(environment, "--record", str(path))
    process = _record(environment, seconds)
    until_recorded(process, seconds / 3)
    first.kill()
    second = Simulator(environment, "--record", str(path))
    try:
        values = json.loads(finished(process)[0])
        began = second.wait_for("stream")["source_index"]
    finally:
        second.close()
    record = _stored(values, environment)
    gap = record.gaps[0]
    spans = [(0, gap.start, 0), (gap.stop, record.n_samples, began)]
    return {
        **_figures(record, values),
        "source_index_after_restart": began,
        "largest_difference_lsb": largest_difference_lsb(record, ecg, spans),
    }


def _record(environment: dict[str, str], seconds: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*APP, "devices", "record", "--seconds", str(seconds), "--json"], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def _stored(values: dict[str, Any], environment: dict[str, str]) -> EcgRecord:
    with ClinicStore(Path(environment["LSEMVAE_HOME"]) / "simulated" / STORE_FILE, create=False) as store:
        return store.get_record(values["stored"]["record_id"])


def _figures(record: EcgRecord, values: dict[str, Any]) -> dict[str, Any]:
    return {
        "n_samples": record.n_samples,
        "received_samples": record.received_samples,
        "gaps": [[gap.start, gap.stop] for gap in record.gaps],
        "lsb_uv": record.lsb_uv,
        "authenticated": record.source.authenticated,
        "session": {key: value for key, value in values["session"].items() if key != "events"},
    }


def main() -> int:
    """Run both and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=30)
    options = parser.parse_args()
    folder = EcgFolder(options.data)
    row = next(row for row in folder.select("train") if row["y_RHS"].startswith("1"))
    ecg = folder.record(row)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "source.ecg.npz"
        write_npz(path, ecg)
        environment = {**os.environ, "XDG_RUNTIME_DIR": scratch, "LSEMVAE_HOME": f"{scratch}/home"}
        found = {
            "command": f"python -m tests.evidence.two_terminals --data DIR --seconds {options.seconds}",
            "recording": row["uid"],
            "undisturbed": undisturbed(ecg, path, environment, seconds=options.seconds),
            "killed_and_started_again": killed(ecg, path, environment, seconds=options.seconds),
        }
    options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
