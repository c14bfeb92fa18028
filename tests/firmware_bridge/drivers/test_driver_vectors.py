"""Each driver against its vector file: bytes in, record out; and the bytes that it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_bridge.drivers import catalogue, make

VECTORS = Path(__file__).resolve().parents[3] / "firmware_bridge" / "drivers" / "vectors"
FILES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(VECTORS.glob("*.json"))}
CASES = [
    pytest.param(name, case, id=f"{name}: {case['name']}") for name, file in FILES.items() for case in file["cases"]
]


def test_every_foreign_driver_has_vectors_and_says_where_they_come_from():
    assert set(FILES) == set(catalogue) - {"e6l"}  # its own are firmware_bridge/protocol/vectors
    for name, file in FILES.items():
        assert file["driver"] == name
        assert file["source"]
        assert file["basis"]
        assert file["cases"]


@pytest.mark.parametrize("name", FILES)
def test_what_a_driver_writes(name: str):
    driver, written = make(name), FILES[name]["write"]
    assert [data.hex() for data in driver.begin()] == written["begin"]
    assert [data.hex() for data in driver.poll(0)] == written["poll"]
    assert [data.hex() for data in driver.end()] == written["end"]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_vector(name: str, case: dict[str, Any]):
    driver = make(name, **case["options"])
    for k, part in enumerate(case["feed"]):
        driver.feed(part["channel"], bytes.fromhex(part["hex"]), k * 1000)
    record = driver.to_record(start=None, device="vector")
    expected = np.array(case["samples"], dtype=np.float64)
    assert record.n_samples == driver.elapsed == expected.shape[1]
    assert [[gap.start, gap.stop] for gap in record.gaps] == case.get("gaps", [])
    assert [[off.lead, off.start, off.stop] for off in record.lead_off] == case.get("lead_off", [])
    found_uv = record.samples * record.lsb_uv + np.array(record.offset_uv)[:, None]
    here = np.ones(record.n_samples, dtype=bool)
    for gap in record.gaps:
        here[gap.start : gap.stop] = False
    difference_uv = np.abs(found_uv - expected * case["lsb_uv"])[:, here]
    assert difference_uv.max() <= record.lsb_uv / 2 + 1e-9
    step = record.lsb_uv / case["lsb_uv"]
    assert step == pytest.approx(2 ** round(np.log2(step)))
    assert {key: getattr(record.source, key) for key in case["quality"]} == case["quality"]
    assert record.source.driver == name
    assert record.gain_known is case["quality"]["calibrated"]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_vector_cut_into_bytes_or_repeated_gives_no_other_samples(name: str, case: dict[str, Any]):
    """A stream may be cut anywhere; a notification may not, so what is cut is refused as a whole."""
    driver, whole = make(name, **case["options"]), make(name, **case["options"])
    for k, part in enumerate(case["feed"]):
        whole.feed(part["channel"], bytes.fromhex(part["hex"]), k)
        for byte in bytes.fromhex(part["hex"]):
            driver.feed(part["channel"], bytes((byte,)), k)
    streamed = driver.info.kind == "serial" or name.startswith("viatom")
    assert driver.elapsed == (whole.elapsed if streamed else 0)
