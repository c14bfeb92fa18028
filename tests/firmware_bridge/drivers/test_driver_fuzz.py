"""A small run of `tests/evidence/driver_fuzz.py`, and proof that its oracle would notice."""

from __future__ import annotations

import pytest

from firmware_bridge.drivers import catalogue, viatom_frames
from tests.evidence import driver_fuzz


@pytest.mark.slow
@pytest.mark.promise(131)
@pytest.mark.parametrize("name", catalogue)
def test_no_crash_no_unchecked_sample_bounded_memory(name: str):
    outcome = driver_fuzz.fuzz(name, 3000, seed=1)
    assert outcome.inputs == 3000
    assert outcome.with_samples > 50  # some of the input is good, or the test would prove nothing
    assert outcome.corrupt + outcome.malformed > 0 or name.startswith("protocentral")


@pytest.mark.promise(131)
def test_a_driver_that_ignores_the_check_sum_is_noticed(monkeypatch: pytest.MonkeyPatch):
    class Anything(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    monkeypatch.setattr(viatom_frames, "crc8", lambda data: Anything())
    with pytest.raises(AssertionError, match="samples from"):
        driver_fuzz.fuzz("viatom", 3000, seed=1)
