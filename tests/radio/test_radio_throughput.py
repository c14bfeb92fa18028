"""500 Hz x 2 channels x 24 bit at ten times real time: 20 packets a second of signal, 200 on the way, none lost."""

from __future__ import annotations

import pytest

from tests.evidence.radio_throughput import BAD_RADIO, measure
from tests.radio.stall import LIMIT_S


@pytest.mark.promise(139)
def test_thirty_seconds_at_ten_times_arrive_without_loss_and_equal_the_source(needs_dbus):
    found = measure(seconds=30, speed=10, faults={})
    assert found["samples"] == 15_000
    assert found["lost_before_retransmission"] == found["lost"] == found["reconnections"] == 0
    assert found["contiguous"]
    # What comes late is still in order and counted; a rate that is not held would fall behind without end.
    assert found["packets_per_s"] >= 0.9 * found["packets_per_s_sent"]
    assert found["worst_difference_lsb"] <= 1
    assert found["longest_stall_ms"] <= 1000 * LIMIT_S


@pytest.mark.promise(139)
@pytest.mark.parametrize("faults", [BAD_RADIO], ids=["5/3/3/2 %"])
def test_the_bad_radio_at_ten_times_ends_contiguous_with_every_damaged_frame_refused(needs_dbus, faults):
    found = measure(seconds=15, speed=10, faults=faults)
    assert found["contiguous"]
    assert found["lost_before_retransmission"] > found["lost"] == 0
    assert all(found["injected"][name] > 0 for name in faults)
    assert found["corrupt_refused"] == found["corrupt_injected"]
    assert found["worst_difference_lsb"] <= 1
    assert found["longest_stall_ms"] <= 1000 * LIMIT_S
