"""What the programs of the simulator share: options of a virtual device, one JSON object a line, an end in good order."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any


def device_parser(program: str, **options: Any) -> argparse.ArgumentParser:
    """Return a parser of a program's command line, with the options of a virtual device that replays a recording."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", **options)
    parser.add_argument("--record", type=Path, required=True, help="recording to replay (.ecg.npz, .csv, WFDB)")
    parser.add_argument("--speed", type=float, default=1.0, help="times real time")
    parser.add_argument("--key", metavar="QR_TEXT", help="text of the QR code on the case: a device that proves itself")
    core = parser.add_mutually_exclusive_group()
    core.add_argument("--core", action="store_true", default=None, help="the device core in C (needs a compiler)")
    core.add_argument("--mirror", dest="core", action="store_false", help="its mirror in Python")
    return parser


def say(event: str, /, **details: Any) -> None:
    """Write an event to standard output, as one line of JSON."""
    sys.stdout.write(json.dumps({"event": event, **details}) + "\n")
    sys.stdout.flush()


def end_on_sigterm() -> None:
    """Have SIGTERM end this process with status 0, so that everything is put away on the way out."""

    def leave(_signal: int, _frame: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
