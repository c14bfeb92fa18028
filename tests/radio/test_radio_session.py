"""Whole sessions over the test radio: the same promises as in process, through real bleak and D-Bus."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest

from edge_app.link.ble.transport import BleTransport
from edge_app.session import EventKind, SessionResult, record_session
from edge_app.session.spool import Spool, recover_spool
from lsemvae.ecg.errors import LinkError, ProtocolError


def faults(**values: float) -> tuple[str, str]:
    return ("--faults", json.dumps(values))


def record(transport: BleTransport, **options) -> Coroutine[Any, Any, SessionResult]:
    """A session with a device that has no key; those that have one are in test_radio_faults.py."""
    return record_session(transport, allow_unauthenticated=True, **options)


def kinds(result) -> list[EventKind]:
    return [event.kind for event in result.events]


def test_ten_seconds_at_ten_times_speed_equal_the_source_at_every_sample(radio, equals_source, run_unstalled):
    radio("--speed", "10")
    result = run_unstalled(record(BleTransport(scan_s=5), seconds=10))
    assert result.complete
    assert result.record.n_samples == 5000
    assert result.statistics.assembly.corrupt == 0
    equals_source(result.record)


@pytest.mark.promise(40)
def test_a_bad_radio_ends_contiguous_after_retransmission(radio, equals_source, run_unstalled):
    running = radio("--speed", "10", *faults(drop=0.05, corrupt=0.03, swap=0.03, duplicate=0.02))
    result = run_unstalled(record(BleTransport(scan_s=5), seconds=10))
    assert result.complete
    equals_source(result.record)
    injected = running.report()["faults"]
    assert result.statistics.assembly.corrupt == injected["corrupt"] > 0


@pytest.mark.promise(41)
def test_a_link_lost_in_the_middle_is_reconnected_and_the_hole_filled(radio, equals_source, run_unstalled):
    running = radio("--speed", "10", *faults(disconnect_at=60))
    result = run_unstalled(record(BleTransport(scan_s=5), seconds=10))
    assert EventKind.RESUMED in kinds(result)
    assert result.statistics.reconnects == 1
    assert result.complete
    equals_source(result.record)
    assert running.report()["daemon"]["Connect"] == 2


@pytest.mark.promise(42)
def test_a_device_killed_in_the_middle_leaves_what_was_received(radio, equals_source, run_unstalled, tmp_path):
    radio("--speed", "10", *faults(power_off_at=100))
    path = tmp_path / "killed.spool"
    with Spool(path) as spool:
        session = record(BleTransport(scan_s=0.5), seconds=10, sink=spool, watchdog_s=1.0, reconnect_for_s=1.0)
        result = run_unstalled(session)
    assert EventKind.GAVE_UP in kinds(result)
    assert result.record.n_samples == 2500
    equals_source(result.record)
    found = result.statistics
    assert found.received_samples + found.missing_samples == found.elapsed_samples == 2500
    assert (recover_spool(path).record.samples == result.record.samples).all()


@pytest.mark.promise(43)
def test_a_device_killed_and_switched_on_again_continues_after_a_declared_gap(radio, equals_source, run_unstalled):
    running = radio("--speed", "10", *faults(power_off_at=60))

    class SwitchesOn(BleTransport):
        """The operator puts the battery back in when the application says that it found nothing."""

        async def connect(self):
            try:
                return await super().connect()
            except LinkError:
                await asyncio.to_thread(running.tell, "power_on")
                raise

    result = run_unstalled(record(SwitchesOn(scan_s=0.5), seconds=20))
    assert EventKind.RESTARTED in kinds(result)
    assert result.statistics.restarts == 1
    (gap,) = result.record.gaps
    assert gap.start == 1500
    assert result.record.n_samples == 10_000
    assert result.record.received_samples + gap.n_samples == 10_000
    equals_source(result.record.slice(0, 1500))


@pytest.mark.promise(42)
def test_a_hanging_device_is_noticed_by_the_watchdog(radio, equals_source, run_unstalled):
    radio("--speed", "10", *faults(hang_at=100))
    session = record(BleTransport(scan_s=2), seconds=10, watchdog_s=0.7, reconnect_for_s=0.7)
    result = run_unstalled(session)
    assert EventKind.SILENT in kinds(result)
    assert result.record.n_samples == 2500
    equals_source(result.record)


def test_a_small_mtu_gives_smaller_frames_and_the_same_samples(radio, equals_source, run_unstalled):
    radio("--speed", "5", "--mtu", "100")
    result = run_unstalled(record(BleTransport(scan_s=5), seconds=4))
    assert result.complete
    assert result.statistics.assembly.frames >= 4 * 500 // 14
    equals_source(result.record)


def test_an_mtu_of_23_is_refused_with_advice(radio):
    radio("--mtu", "23")
    with pytest.raises(ProtocolError, match="MTU_TOO_SMALL") as caught:
        asyncio.run(record(BleTransport(scan_s=5), seconds=4))
    assert "adapter" in caught.value.advice


def test_a_device_that_is_not_there_is_a_link_error_with_advice(radio):
    radio()
    with pytest.raises(LinkError, match=r"found no AA:BB:CC:DD:EE:FF in 0\.3 s") as caught:
        asyncio.run(record(BleTransport(address="AA:BB:CC:DD:EE:FF", scan_s=0.3), seconds=4))
    assert "Switch the device on" in caught.value.advice


@pytest.mark.promise(47)
@pytest.mark.parametrize(
    ("options", "command", "words"),
    [((), "adapter_off", "Switch Bluetooth on"), (("--no-adapter",), "", "Plug in a Bluetooth adapter")],
    ids=["adapter off", "no adapter"],
)
def test_an_adapter_that_is_off_or_absent_is_a_link_error_with_advice(radio, options, command, words):
    running = radio(*options)
    if command:
        running.tell(command)
        running.report()
    with pytest.raises(LinkError) as caught:
        asyncio.run(record(BleTransport(scan_s=1), seconds=4))
    assert words in caught.value.advice


def told_at(running, seconds: float, command: str):
    """A progress observer that gives the radio a command once so much signal is there."""
    done = []

    def watch(progress):
        if progress.elapsed_s >= seconds and not done:
            done.append(command)
            running.tell(command)

    return watch


def test_a_device_that_hangs_for_a_while_is_repaired_from_its_ring(radio, equals_source, run_unstalled):
    running = radio()

    async def session():
        loop = asyncio.get_running_loop()

        def watch(progress):
            if progress.elapsed_s >= 1 and not waking:
                running.tell("hang")
                waking.append(loop.call_later(2, running.tell, "wake"))

        waking: list[asyncio.TimerHandle] = []
        return await record(BleTransport(scan_s=5), seconds=6, on_progress=watch)

    result = run_unstalled(session())
    assert result.complete
    assert result.statistics.reconnects == 0
    equals_source(result.record)


def test_an_adapter_switched_off_in_the_middle_loses_the_link_and_keeps_what_was_received(
    radio, equals_source, run_unstalled
):
    running = radio("--speed", "5")
    watch = told_at(running, 3, "adapter_off")
    result = run_unstalled(
        record(BleTransport(scan_s=1), seconds=10, watchdog_s=0.5, reconnect_for_s=1, on_progress=watch)
    )
    assert EventKind.LOST in kinds(result)
    assert EventKind.GAVE_UP in kinds(result)
    assert 3 * 500 <= result.record.n_samples < 10 * 500
    equals_source(result.record)
