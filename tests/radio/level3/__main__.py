"""Run a program of this checkout in the emulated machine: ``python -m tests.radio.level3 PROGRAM [ARGUMENT ...]``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lsemvae.ecg.errors import EcgError
from tests.radio.level3.debian import RELEASES
from tests.radio.level3.machine import TIMEOUT_S, run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status of the program in the guest; 1 if the machine cannot be made."""
    options = _parser().parse_args(argv)
    try:
        run = run_program(
            options.program, release=options.release, out=options.out, checkout=options.checkout,
            timeout_s=options.timeout,
        )  # fmt: skip
    except EcgError as exc:
        sys.stderr.write(f"{exc}\n{exc.advice}\n")
        return 1
    sys.stdout.write(json.dumps(dataclasses.asdict(run)) + "\n")
    return run.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.radio.level3", description=__doc__.splitlines()[0])
    parser.add_argument("--release", choices=RELEASES, default=RELEASES[0], help="Debian whose kernel and BlueZ run")
    parser.add_argument("--out", type=Path, default=Path("level3-out"), help="folder for results and logs")
    parser.add_argument("--checkout", type=Path, default=Path(), help="root of this checkout")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds of wall time for one boot")
    parser.add_argument(
        "program", nargs=argparse.REMAINDER, help="a script, relative to the checkout, and its arguments"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
