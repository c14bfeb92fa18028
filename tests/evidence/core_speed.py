"""Frames per second of the C core on one core of this machine, as JSON; the bar is 100,000 each way.

    python tests/evidence/core_speed.py [--out FILE]

A frame is what every device here sends: 25 samples of two leads in 24 bits, 162 bytes. Built with -O2 by the compiler of this
machine; the best of five runs, since others may use the machine. Text of a Cortex-M4 is added where its compiler is there.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from firmware_bridge.sim.device.core_build import CORE_FOLDER

BAR_PER_S = 100_000
RUNS = 5


def make(target: str, build: str) -> str:
    """Standard output of a target of the core's Makefile."""
    command = ["make", "-s", "-C", str(CORE_FOLDER), target, f"BUILD={build}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def measure() -> dict[str, Any]:
    """Rates, size and what they were measured on."""
    with tempfile.TemporaryDirectory() as build:
        runs = [json.loads(make("speed", build)) for _ in range(RUNS)]
        size = make("size", build) if shutil.which("arm-none-eabi-gcc") else ""
    text = re.search(r"text (\d+) bytes", size)
    rates = {name: max(run[name] for run in runs) for name in ("encode_per_s", "decode_per_s")}
    return {
        **rates, "bar_per_s": BAR_PER_S, "met": min(rates.values()) >= BAR_PER_S, "frames": runs[0]["frames"],
        "cortex_m4_text_bytes": int(text[1]) if text else None, "machine": platform.machine(),
    }  # fmt: skip


def main() -> int:
    """Print, and write where asked; 1 below the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report = measure()
    text = json.dumps(report, indent=1) + "\n"
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    return 0 if report["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
