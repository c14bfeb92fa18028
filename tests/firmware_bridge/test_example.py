"""The example program uses the bridge alone: a log in, a record out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from firmware_bridge import example
from firmware_bridge.protocol.control import Request, StartParams
from firmware_bridge.protocol.profile import Op
from firmware_bridge.sim.device.device import Channel, VirtualDevice
from firmware_bridge.sim.device.source import ELECTRODE_OFFSET_UV, LSB_PV, SignalSource, source_from_uv

SOURCE_CODE = Path(example.__file__).read_text(encoding="utf-8")


def log_of(source: SignalSource, *, seconds: int, lose: int) -> str:
    device = VirtualDevice(source)
    device.link_up(mtu=247)
    device.control(Request(op=Op.START, txn=1, params=StartParams().to_bytes()).to_bytes(), now_us=0)
    lines = [{"format": "e6l-log/1", "driver": "e6l"}]
    lines.append({"t_us": 0, "channel": "descriptor", "hex": device.read_descriptor().hex()})
    frames = [item for item in device.advance(seconds * 1_000_000) if item.channel is Channel.LIVE]
    frames[lose] = type(frames[lose])(Channel.LIVE, frames[lose].data[:-1] + b"\xee")
    lines += [{"t_us": 50_000 * at, "channel": "live", "hex": item.data.hex()} for at, item in enumerate(frames)]
    return "\n".join(json.dumps(line) for line in lines)


def test_the_example_turns_a_log_into_the_source_s_samples_and_names_the_frame_that_is_missing(tmp_path):
    source = source_from_uv(np.random.default_rng(0).normal(0, 300, (2, 5000)), fs_hz=500.0)
    text = log_of(source, seconds=10, lose=7)
    record = example.record_of_log(text.splitlines())
    assert [(gap.start, gap.stop) for gap in record.gaps] == [(175, 200)]
    here = np.r_[0:175, 200:5000]
    uv = source.codes * (LSB_PV / 1e6) - np.array(ELECTRODE_OFFSET_UV)[:, None]
    found = record.samples * record.lsb_uv
    offset = np.median(found[:, here] - uv[:, here], axis=1, keepdims=True)
    assert np.abs(found[:, here] - uv[:, here] - offset).max() <= record.lsb_uv
    path = tmp_path / "log.jsonl"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "firmware_bridge.example", str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "I+II: 5000 samples at 500 Hz, 25 missing\n"


def test_the_example_is_short_and_imports_the_bridge_and_the_floor_only():
    body = SOURCE_CODE[SOURCE_CODE.index("def record_of_log") : SOURCE_CODE.index("if __name__")]
    assert len(body.strip().splitlines()) <= 20
    imported = {
        line.split()[1].split(".")[0] for line in SOURCE_CODE.splitlines() if line.startswith(("import", "from"))
    }
    assert imported - set(sys.stdlib_module_names) == {"firmware_bridge", "lsemvae"}
