"""Faults are what they say, as often as they say, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_bridge.protocol.codec import LiveFrame, decode_frame, encode_frame
from firmware_bridge.protocol.errors import FrameCrcError
from firmware_bridge.sim.air.faults import FaultInjector, Faults, LinkAction
from firmware_bridge.sim.device.device import Channel, Notification


def notifications(n: int) -> list[Notification]:
    frames = (LiveFrame(samples=np.full((2, 4), k, dtype=np.int32), t0=4 * k) for k in range(n))
    return [Notification(Channel.LIVE, encode_frame(frame)) for frame in frames]


def order(sent: list[Notification]) -> list[int]:
    return [decode_frame(item.data).t0 // 4 for item in sent]


def test_without_faults_everything_passes_in_order():
    assert order(FaultInjector(Faults()).apply(notifications(50))) == list(range(50))


def test_the_same_seed_gives_the_same_faults():
    faults = Faults(drop=0.2, corrupt=0.1, swap=0.1, duplicate=0.1, delay=0.1, seed=7)
    assert FaultInjector(faults).apply(notifications(200)) == FaultInjector(faults).apply(notifications(200))


def test_drop_loses_frames_and_nothing_else():
    injector = FaultInjector(Faults(drop=0.3))
    sent = order(injector.apply(notifications(300)))
    assert sent == sorted(set(sent))
    assert len(sent) == 300 - injector.counts["drop"]
    assert 50 < injector.counts["drop"] < 130


def test_corrupt_flips_one_bit_which_the_check_sum_catches():
    (sent,) = FaultInjector(Faults(corrupt=1.0)).apply(notifications(1))
    difference = int.from_bytes(sent.data, "big") ^ int.from_bytes(notifications(1)[0].data, "big")
    assert difference.bit_count() == 1
    with pytest.raises(FrameCrcError):
        decode_frame(sent.data)


def test_swap_sends_a_frame_after_its_successor():
    sent = order(FaultInjector(Faults(swap=0.2)).apply(notifications(200)))
    moved = [frame for position, frame in enumerate(sent[:-1]) if sent[position + 1] < frame]
    assert moved
    assert len(set(sent)) == len(sent)


def test_duplicate_sends_a_frame_twice():
    assert order(FaultInjector(Faults(duplicate=1.0)).apply(notifications(2))) == [0, 0, 1, 1]


def test_delay_sends_a_frame_after_several_others():
    sent = order(FaultInjector(Faults(delay=0.1, delay_frames=5)).apply(notifications(200)))
    late = [position - sorted(sent).index(frame) for position, frame in enumerate(sent)]
    assert max(late) >= 3


def test_control_and_status_always_pass():
    others = [Notification(Channel.CONTROL, b"a"), Notification(Channel.STATUS, b"b")]
    assert FaultInjector(Faults(drop=1.0)).apply(others) == others


@pytest.mark.parametrize(
    ("faults", "action"),
    [
        (Faults(disconnect_at=3), LinkAction.DISCONNECT),
        (Faults(power_off_at=3), LinkAction.POWER_OFF),
        (Faults(hang_at=3), LinkAction.HANG),
    ],
)
def test_an_action_is_due_once_after_its_frame(faults, action):
    injector = FaultInjector(faults)
    injector.apply(notifications(2))
    assert injector.action() is None
    injector.apply(notifications(1))
    assert injector.action() is action
    assert injector.action() is None
