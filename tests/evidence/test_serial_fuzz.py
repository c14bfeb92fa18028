"""The fuzzing command of the serial line and the notification log, in small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("serial_fuzz.py")


def test_three_thousand_hostile_inputs_break_nothing():
    child = subprocess.run([sys.executable, str(SCRIPT), "3000", "7"], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stdout + child.stderr
    counts = json.loads(child.stdout)
    assert counts["control accepted"] > 30
    assert counts["packets rejected"] > 1000
    assert counts["log lines read"] > 1000
    assert counts["log lines named"] > 1000
