"""Each fault of a radio or a device over a whole session: the record ends contiguous, or says what is missing.

What is claimed is the source's at every sample, and every frame that was damaged on the way is counted as refused.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from edge_app.link.ble.transport import BleTransport
from edge_app.link.client import DeviceClient, Origin
from edge_app.link.stored import arm, find
from edge_app.session import EventKind, SessionResult, record_session
from firmware_bridge.protocol.bulk import BulkAssembler, RecordReadParams, StoredRecording
from firmware_bridge.protocol.profile import Op
from lsemvae.ecg.errors import ProtocolError

# Given, no scan waits to see whether a second device has the same name.
ADDRESS = "F1:F2:F3:F4:F5:F6"
SCAN_S = 5.0
WITH_KEY = ("--speed", "10", "--key")
MIXED = {"drop": 0.05, "corrupt": 0.03, "swap": 0.03, "duplicate": 0.02, "delay": 0.02, "garbage": 0.03}


def options_of(faults: dict[str, float]) -> list[str]:
    return [word for name, value in faults.items() for word in (f"--{name}", str(value))]


def corrupt_in(injected: dict[str, int]) -> int:
    """Frames on the live characteristic that no device made."""
    return injected.get("corrupt", 0) + injected.get("garbage_live", 0)


def refused_in(result: SessionResult) -> int:
    assembly = result.statistics.assembly
    return assembly.corrupt + assembly.malformed


def once_at(seconds: float, act: Callable[[], None]) -> Callable[[Any], None]:
    """A progress observer that acts once, when so much signal is there."""
    acted = []

    def watch(progress: Any) -> None:
        if progress.elapsed_s >= seconds and not acted:
            acted.append(True)
            act()

    return watch


def kinds(result: SessionResult) -> list[EventKind]:
    return [event.kind for event in result.events]


def check_honest(result: SessionResult) -> None:
    """Received samples and declared gaps are the elapsed time."""
    found = result.statistics
    gaps = sum(gap.n_samples for gap in result.record.gaps)
    assert found.received_samples + gaps == found.elapsed_samples == result.record.n_samples
    assert not (result.complete and gaps)


def restarted_at(result: SessionResult) -> int:
    """Where in the record the stream of the restarted device begins; the samples before it are a gap."""
    (message,) = [event.message for event in result.events if event.kind is EventKind.RESTARTED]
    position = int(message.split("sample ")[1].split()[0])
    assert any(gap.start < position <= gap.stop for gap in result.record.gaps)
    return position


@pytest.mark.promise(138)
@pytest.mark.parametrize(
    "faults",
    [{"drop": 0.08}, {"corrupt": 0.08}, {"swap": 0.1}, {"duplicate": 0.1}, {"delay": 0.08}, {"garbage": 0.15}, MIXED],
    ids=lambda faults: "+".join(faults),
)
def test_a_radio_with_faults_ends_contiguous_after_retransmission(
    radio, device_key, equals_source, run_unstalled, faults
):
    running = radio(*WITH_KEY, device_key.to_text(), *options_of(faults))
    result = run_unstalled(record_session(BleTransport(address=ADDRESS, scan_s=SCAN_S), seconds=6, keys=(device_key,)))
    injected = running.report()["faults"]
    assert all(injected[name] > 0 for name in faults if name != "garbage")
    assert result.complete, result.events
    check_honest(result)
    equals_source(result.record)
    assert refused_in(result) == corrupt_in(injected)
    if "drop" in faults:
        assert result.statistics.missing_before_repair > 0


@pytest.mark.promise(138)
@pytest.mark.parametrize("mtu", [100, 247])
def test_a_bad_radio_of_any_packet_size_ends_contiguous(radio, device_key, equals_source, run_unstalled, mtu):
    running = radio("--mtu", str(mtu), *WITH_KEY, device_key.to_text(), *options_of(MIXED))
    result = run_unstalled(record_session(BleTransport(address=ADDRESS, scan_s=SCAN_S), seconds=6, keys=(device_key,)))
    assert result.complete, result.events
    equals_source(result.record)
    assert refused_in(result) == corrupt_in(running.report()["faults"]) > 0


def test_an_mtu_of_23_has_no_room_for_a_proof_and_is_refused_with_advice(radio, device_key, run_unstalled):
    radio("--mtu", "23", *WITH_KEY, device_key.to_text())
    transport = BleTransport(address=ADDRESS, scan_s=SCAN_S)
    with pytest.raises(ProtocolError, match="MTU_TOO_SMALL") as caught:
        run_unstalled(record_session(transport, seconds=4, keys=(device_key,)))
    assert "adapter" in caught.value.advice


def test_a_device_whose_core_is_the_python_mirror_gives_the_same(radio, device_key, equals_source, run_unstalled):
    running = radio("--mirror", *WITH_KEY, device_key.to_text(), *options_of(MIXED))
    result = run_unstalled(record_session(BleTransport(address=ADDRESS, scan_s=SCAN_S), seconds=6, keys=(device_key,)))
    assert result.complete, result.events
    equals_source(result.record)
    assert refused_in(result) == corrupt_in(running.report()["faults"]) > 0


@pytest.mark.promise(138)
def test_a_power_cycle_in_the_middle_leaves_one_declared_gap(radio, device_key, equals_source, run_unstalled):
    running = radio(*WITH_KEY, device_key.to_text(), *options_of({"drop": 0.03, "corrupt": 0.03}))
    watch = once_at(4, lambda: running.tell("power_cycle 0.2"))
    transport = BleTransport(address=ADDRESS, scan_s=SCAN_S)
    result = run_unstalled(record_session(transport, seconds=20, keys=(device_key,), on_progress=watch))
    assert result.statistics.restarts == 1
    assert not result.complete
    assert result.record.n_samples == 20 * 500
    check_honest(result)
    first, second = running.streams()
    assert first["boot_id"] != second["boot_id"]
    starts = [(0, first["source_index"]), (restarted_at(result), second["source_index"])]
    equals_source(result.record, starts=starts)
    assert refused_in(result) == corrupt_in(running.report()["faults"])


@pytest.mark.promise(138)
def test_a_simulator_killed_and_started_again_at_its_address_is_recorded_on(
    radio, device_key, equals_source, run_unstalled, tmp_path
):
    options = ("--bus", str(tmp_path / "bus"), "--speed", "5", "--key", device_key.to_text())
    first = radio(*options)
    second = []

    async def session() -> SessionResult:
        tasks = []

        def restart() -> None:
            tasks.append(asyncio.ensure_future(asyncio.to_thread(kill_and_start)))

        def kill_and_start() -> None:
            first.kill()
            second.append(radio(*options))

        result = await record_session(
            BleTransport(address=ADDRESS, scan_s=SCAN_S),
            seconds=25,
            keys=(device_key,),
            on_progress=once_at(3, restart),
        )
        await asyncio.gather(*tasks)
        return result

    result = run_unstalled(session())
    assert result.statistics.restarts == 1, result.events
    assert result.record.n_samples == 25 * 500
    check_honest(result)
    (gap,) = result.record.gaps
    assert gap.stop == restarted_at(result)
    (stream,) = second[0].streams()
    equals_source(result.record, starts=[(0, 0), (gap.stop, stream["source_index"])])


@pytest.mark.promise(138)
def test_a_battery_that_dies_is_told_before_and_leaves_what_was_received(
    radio, device_key, equals_source, run_unstalled
):
    running = radio("--speed", "8", "--key", device_key.to_text())
    low, dead = once_at(1, lambda: running.tell("battery 4")), once_at(8, lambda: running.tell("battery_dead"))
    shown = set()

    def watch(progress: Any) -> None:
        low(progress)
        dead(progress)
        shown.add(progress.battery_percent)

    session = record_session(
        BleTransport(address=ADDRESS, scan_s=0.5),
        seconds=20,
        keys=(device_key,),
        on_progress=watch,
        watchdog_s=1,
        reconnect_for_s=1,
    )
    result = run_unstalled(session)
    assert 4 in shown
    assert {EventKind.LOST, EventKind.GAVE_UP} <= set(kinds(result))
    assert 8 * 500 <= result.record.n_samples < 20 * 500
    assert not result.complete
    check_honest(result)
    equals_source(result.record)


@pytest.mark.promise(137)
def test_what_has_left_the_ring_is_read_from_the_devices_own_recording(radio, device_key, equals_source, run_unstalled):
    """Out of reach for longer than the 30 s of the ring; bulk frames get lost and damaged like any other.

    What is lost before the recording is armed, which on a busy machine comes late, leaves the ring and is nowhere: with this seed
    the first 150 live frames arrive.
    """
    lossy = ("--drop", "0.02", "--corrupt", "0.02", "--seed", "34")
    running = radio("--speed", "20", "--key", device_key.to_text(), *lossy)

    async def session() -> SessionResult:
        loop = asyncio.get_running_loop()

        def away() -> None:
            running.tell("adapter_off")
            loop.call_later(2.0, running.tell, "adapter_on")

        watch = once_at(4, away)
        return await record_session(
            BleTransport(address=ADDRESS, scan_s=1), seconds=20, keys=(device_key,), on_progress=watch
        )

    result = run_unstalled(session())
    injected = running.report()["faults"]
    assert EventKind.EVICTED in kinds(result), result.events
    assert result.complete, result.events
    assert result.statistics.assembly.stored > 0
    assert injected["bulk_drop"] > 0
    assert injected["bulk_corrupt"] > 0
    equals_source(result.record)


def test_faults_may_change_while_the_device_streams(radio, device_key, equals_source, run_unstalled):
    running = radio(*WITH_KEY, device_key.to_text())
    watch = once_at(3, lambda: running.tell(f"faults {json.dumps({'duplicate': 0.5})}"))
    transport = BleTransport(address=ADDRESS, scan_s=SCAN_S)
    result = run_unstalled(record_session(transport, seconds=6, keys=(device_key,), on_progress=watch))
    assert result.complete
    assert result.statistics.assembly.duplicates == running.report()["faults"]["duplicate"] > 5
    equals_source(result.record)


def test_an_encrypted_link_with_faults_is_paired_and_ends_contiguous(radio, device_key, equals_source, run_unstalled):
    running = radio("--encrypted", *WITH_KEY, device_key.to_text(), *options_of(MIXED))
    transport = BleTransport(address=ADDRESS, scan_s=SCAN_S)
    result = run_unstalled(record_session(transport, seconds=6, keys=(device_key,)))
    assert result.complete, result.events
    assert running.report()["daemon"]["Pair"] == 1
    equals_source(result.record)


@pytest.mark.promise(138)
def test_a_bluetooth_service_that_dies_and_comes_back_is_survived(radio, device_key, equals_source, run_unstalled):
    running = radio("--speed", "5", "--key", device_key.to_text())

    async def session() -> SessionResult:
        loop = asyncio.get_running_loop()

        def crash() -> None:
            running.tell("service_crash")
            loop.call_later(1.0, running.tell, "service_restart")

        watch = once_at(3, crash)
        transport = BleTransport(address=ADDRESS, scan_s=SCAN_S)
        return await record_session(transport, seconds=10, keys=(device_key,), on_progress=watch)

    result = run_unstalled(session())
    assert EventKind.LOST in kinds(result)
    assert result.statistics.reconnects >= 1
    assert result.complete, result.events
    equals_source(result.record)


@pytest.mark.promise(137)
def test_every_damaged_bulk_frame_is_refused_and_asked_for_again(radio, run_unstalled):
    """A recording of 10 s read back: its CRC-32 covers every byte that is used."""
    running = radio("--speed", "20", *options_of({"drop": 0.03, "corrupt": 0.05}))

    async def read_back() -> tuple[BulkAssembler, StoredRecording]:
        assembler = None

        def take(source: Origin, data: bytes) -> None:
            if source is Origin.BULK and assembler is not None:
                assembler.feed(data)

        client = DeviceClient(BleTransport(address=ADDRESS, scan_s=SCAN_S), on_bytes=take, on_lost=lambda _reason: None)
        try:
            opened = await client.open()
            client.admit()
            record_id = await arm(client, seconds=10)
            while (stored := await find(client, record_id)) is None:
                await asyncio.sleep(0.05)
            assembler = BulkAssembler(stored.n_bytes(n_leads=len(opened.descriptor.leads)))
            for _ in range(100):
                if assembler.complete:
                    break
                offset, length = assembler.missing()[0]
                params = RecordReadParams(record_id=record_id, offset=offset, length=length).to_bytes()
                await client.request(Op.RECORD_READ, params)  # BUSY: the last one is not through
                await asyncio.sleep(0.1)
            return assembler, stored
        finally:
            await client.close()

    assembler, stored = run_unstalled(read_back())
    injected = running.report()["faults"]
    assert len(assembler.bytes(crc32=stored.crc32)) == 5000 * 6
    assert injected["bulk_drop"] > 0
    assert assembler.rejected == injected["bulk_corrupt"] > 0
