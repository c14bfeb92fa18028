"""The timing command of the bridge: a short run reaches the bars and says what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from firmware_bridge.sim.device.core_build import missing_for_core

SCRIPT = Path(__file__).with_name("bridge_speed.py")


def test_the_python_codec_reaches_its_bar_and_the_c_core_is_measured_where_it_can_be_built(tmp_path):
    """On this short run only the Python bar is held against the machine: it lies ten times lower than what is usual."""
    path = tmp_path / "speed.json"
    subprocess.run([sys.executable, str(SCRIPT), "300", str(path)], capture_output=True, text=True, check=False)
    result = json.loads(path.read_text(encoding="utf-8"))
    rates = result["frames_per_second"]
    python = {name: rate for name, rate in rates.items() if name.startswith("python")}
    assert set(python) == {f"python {what} {kind}" for what in ("encode", "decode") for kind in ("live", "bulk")}
    assert min(python.values()) >= result["bars"]["python"] == 5_000
    assert any(name.startswith("c ") for name in rates) == (not missing_for_core())
    assert result["below_the_bar"] == [name for name, rate in rates.items() if rate < result["bars"][name.split()[0]]]
