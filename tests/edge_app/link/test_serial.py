"""A six-lead device on a serial line: a session as over the air, and what can go wrong with a port."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import numpy as np
import pytest

from edge_app.link.client import DeviceClient
from edge_app.link.serial import port as serial_line
from edge_app.link.serial import transport as serial_port
from edge_app.link.serial.port import SerialPort, translated
from edge_app.link.serial.transport import SerialTransport
from edge_app.session import EventKind, record_session
from firmware_bridge.protocol.bulk import (
    BulkAssembler,
    RecordArmParams,
    RecordReadParams,
    decode_record_list_reply,
    decode_recording,
    encode_record_list,
)
from firmware_bridge.protocol.control import Request, decode_reply
from firmware_bridge.protocol.descriptor import decode_descriptor
from firmware_bridge.protocol.profile import DeviceState, Op, ReplyStatus
from firmware_bridge.protocol.serial_packets import SERIAL_MTU
from firmware_bridge.protocol.status import decode_status
from firmware_bridge.sim.air.faults import Faults
from firmware_bridge.sim.air.player import DevicePlayer
from firmware_bridge.sim.air.serial_device import Pty, SerialPeripheral
from firmware_bridge.sim.device.device import VirtualDevice
from lsemvae.ecg.errors import LinkError
from lsemvae.ecg.record import record_from_physical
from lsemvae.formats.npz import write_npz

pytestmark = pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")

SPEED = 20.0


@asynccontextmanager
async def device_on(source, *, faults: Faults | None = None, corrupt=bytes):
    device = SerialPeripheral(DevicePlayer(VirtualDevice(source), faults=faults, speed=SPEED), corrupt=corrupt)
    device.start()
    try:
        yield device
    finally:
        await device.close()


async def record_over(device: SerialPeripheral, *, seconds: float = 10.0, **options):
    # A virtual device has no key.
    return await record_session(SerialTransport(device.path), seconds=seconds, allow_unauthenticated=True, **options)


def line_noise(*, share: float, seed: int = 1):
    """Change one byte of some packets, delimiters included: what a loose plug does."""
    chance = random.Random(seed)

    def corrupt(data: bytes) -> bytes:
        if chance.random() >= share:
            return data
        changed = bytearray(data)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        return bytes(changed)

    return corrupt


@pytest.mark.slow
def test_a_session_over_a_serial_line_gives_the_source_sample_by_sample(source, equals_source):
    async def run():
        async with device_on(source) as device:
            result = await record_over(device)
            assert device.unsent == 0
            return result

    result = asyncio.run(run())
    assert result.complete
    assert result.record.n_samples == 5000
    equals_source(result.record)


@pytest.mark.slow
def test_drop_corrupt_swap_duplicate_below_the_packets_end_contiguous(source, equals_source):
    async def run():
        faults = Faults(drop=0.05, corrupt=0.03, swap=0.03, duplicate=0.02)
        async with device_on(source, faults=faults) as device:
            return await record_over(device)

    result = asyncio.run(run())
    assert result.complete
    assert result.statistics.assembly.corrupt > 0
    equals_source(result.record)


@pytest.mark.slow
def test_noise_on_the_line_never_becomes_a_sample(source, equals_source):
    """Replies may be lost as well as frames: the record is contiguous, or it says what is missing."""

    async def run():
        async with device_on(source, corrupt=line_noise(share=0.03)) as device:
            return await record_over(device)

    result = asyncio.run(run())
    assert result.record.received_samples > 4000
    assert result.record.received_samples + sum(gap.n_samples for gap in result.record.gaps) == result.record.n_samples
    equals_source(result.record)


@pytest.mark.slow
def test_a_damaged_descriptor_is_asked_for_again(source):
    answers = iter((True, False))

    def first_answer_damaged(data: bytes) -> bytes:
        return bytes((data[0], data[1] ^ 0x10)) + data[2:] if next(answers, False) else data

    async def run():
        async with device_on(source, corrupt=first_answer_damaged) as device:
            transport = SerialTransport(device.path)
            try:
                info = await transport.connect()
                return info, await transport.read_descriptor(), await transport.read_status(), transport.rejected
            finally:
                await transport.disconnect()

    info, descriptor, status, _rejected = asyncio.run(run())
    assert (info.kind, info.mtu) == ("serial", SERIAL_MTU)
    assert decode_descriptor(descriptor).leads == ("I", "II")
    assert decode_status(status).state is DeviceState.IDLE


def test_a_device_that_still_streams_to_a_dead_host_is_silent_once_its_descriptor_is_read(source):
    async def run():
        async with device_on(source) as device:
            first = DeviceClient(SerialTransport(device.path), on_bytes=lambda *_: None, on_lost=lambda _r: None)
            await first.open()
            await first.command(Op.START, bytes((0, 25, 0)))
            await first.close()  # without STOP
            frames: list[bytes] = []
            second = SerialTransport(device.path)
            await second.connect()
            await second.subscribe(on_live=frames.append, on_control=lambda _d: None)
            await asyncio.sleep(0.2)
            await second.disconnect()
            return frames

    assert asyncio.run(run()) == []


def test_the_session_goes_on_after_the_program_was_restarted(source, equals_source):
    """The stream of the dead program is stopped and a new one begins: nothing of the old one is in the record."""

    async def run():
        async with device_on(source) as device:
            first = DeviceClient(SerialTransport(device.path), on_bytes=lambda *_: None, on_lost=lambda _r: None)
            await first.open()
            await first.command(Op.START, bytes((0, 25, 0)))
            await asyncio.sleep(0.1)
            await first.close()
            return await record_over(device, seconds=4.0)

    result = asyncio.run(run())
    assert result.complete
    equals_source(result.record)


@pytest.mark.slow
def test_unplugged_in_the_middle_keeps_what_was_received(source, equals_source):
    async def run():
        async with device_on(source) as device:
            asyncio.get_running_loop().call_later(0.2, device.unplug)
            return await record_over(device, reconnect_for_s=0.3, watchdog_s=0.3)

    result = asyncio.run(run())
    kinds = [event.kind for event in result.events]
    assert EventKind.LOST in kinds
    assert EventKind.GAVE_UP in kinds
    assert any("unplugged" in event.message for event in result.events)
    assert 0 < result.record.n_samples < 5000
    equals_source(result.record)


def test_an_unplugged_device_fails_the_next_request_with_advice(source):
    async def run():
        async with device_on(source) as device:
            transport = SerialTransport(device.path)
            await transport.connect()
            lost: list[str] = []
            transport.on_disconnect(lost.append)
            device.unplug()
            await asyncio.sleep(0.3)
            try:
                with pytest.raises(LinkError) as caught:
                    await transport.read_status()
            finally:
                await transport.disconnect()
            return lost, caught.value

    lost, error = asyncio.run(run())
    assert lost == [serial_line.LOST_REASON]
    assert "Plug the device in again" in error.advice


@pytest.mark.slow
def test_a_stored_recording_is_read_over_a_serial_line(source):
    """Bulk frames come faster than the line's buffer takes them: what was lost on the wire is asked for again."""

    async def run():
        async with device_on(source) as device:
            transport, bulk, replies = SerialTransport(device.path), [], asyncio.Queue()
            await transport.connect()
            await transport.subscribe(
                on_live=lambda _d: None, on_control=lambda data: replies.put_nowait(decode_reply(data)),
                on_bulk=bulk.append,
            )  # fmt: skip

            async def ask(op: Op, params: bytes) -> bytes:
                await transport.write_control(Request(op=op, txn=1, params=params).to_bytes())
                reply = await asyncio.wait_for(replies.get(), 2)
                assert reply.status is ReplyStatus.OK
                return reply.data

            try:
                await ask(Op.RECORD_ARM, RecordArmParams(seconds=10).to_bytes())
                await asyncio.sleep(10.5 / SPEED)
                stored = decode_record_list_reply(await ask(Op.RECORD_LIST, encode_record_list(0))).recording
                assembler = BulkAssembler(stored.n_bytes(n_leads=2))
                while missing := assembler.missing():
                    offset, length = missing[0]
                    params = RecordReadParams(stored.record_id, offset, min(length, 2000)).to_bytes()
                    await ask(Op.RECORD_READ, params)
                    await asyncio.sleep(0.02)
                    for data in bulk:
                        assembler.feed(data)
                    bulk.clear()
                return decode_recording(assembler.bytes(crc32=stored.crc32), n_leads=2)
            finally:
                await transport.disconnect()

    np.testing.assert_array_equal(asyncio.run(run()), source.codes[:, :5000])


def test_a_port_that_another_program_uses_is_refused(source):
    async def run():
        async with device_on(source) as device:
            first, second = SerialTransport(device.path), SerialTransport(device.path)
            await first.connect()
            try:
                with pytest.raises(LinkError, match="in use") as caught:
                    await second.connect()
            finally:
                await first.disconnect()
            await second.connect()  # free again
            await second.disconnect()
            return caught.value

    assert "Close the other program" in asyncio.run(run()).advice


def connect(path: str, **options) -> LinkError:
    with pytest.raises(LinkError) as caught:
        asyncio.run(SerialTransport(path, **options).connect())
    return caught.value


def test_a_port_that_is_not_there_names_those_that_are():
    error = connect("/dev/ttyNONE0")
    assert "no such port" in str(error)
    assert "/dev/ttyACM0" in error.advice


def test_a_file_is_no_port(tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert "expected a serial port" in str(connect(str(file)))


def test_no_permission_names_the_group():
    with pytest.raises(LinkError) as caught, translated("/dev/ttyACM0"):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert "dialout" in caught.value.advice


@pytest.mark.parametrize("baud", [0, -9600, 10**9])
def test_an_impossible_rate_is_refused(baud):
    with pytest.raises(LinkError, match="baud"):
        SerialPort("/dev/ttyACM0", baud=baud)


def test_without_pyserial_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "serial", None)
    assert "lsemvae[serial]" in connect("/dev/ttyACM0").advice


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "found"),
    [pytest.param(b"", "no answer", id="silent"), pytest.param(b"\x55\xaa" * 20 + b"\0", "unreadable", id="rubbish")],
)
def test_a_device_that_does_not_answer_or_at_another_rate_says_so(monkeypatch, answer, found):
    monkeypatch.setattr(serial_port, "_ASK_S", 0.1)

    async def run():
        pty = Pty()
        pty.listen(lambda _data: pty.write(answer))
        try:
            await SerialTransport(pty.path).connect()
        finally:
            pty.unplug()

    with pytest.raises(LinkError, match=found) as caught:
        asyncio.run(run())
    assert "baud" in caught.value.advice


def test_requests_without_a_connection_say_so():
    async def run():
        transport = SerialTransport("/dev/ttyACM0")
        await transport.disconnect()
        with pytest.raises(LinkError, match="no connection"):
            await transport.write_control(b"\x02\x01")
        with pytest.raises(LinkError, match="no connection"):
            await transport.subscribe(on_live=print, on_control=print)

    asyncio.run(run())


@pytest.mark.slow
def test_the_event_loop_is_not_blocked_by_a_line_that_nobody_reads(source):
    """A device that takes nothing in fills the buffer: the write waits in a thread, for 2 s, and the loop runs on."""

    async def run():
        pty = Pty()
        port = SerialPort(pty.path)
        await port.open(on_bytes=lambda *_: None, on_lost=lambda _r: None)
        writing = asyncio.ensure_future(port.write(bytes(1 << 20)))
        longest, last = 0.0, time.monotonic()
        for _ in range(30):
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        assert not writing.done()
        with pytest.raises(LinkError):
            await writing
        await port.close()
        pty.unplug()
        return longest

    assert asyncio.run(run()) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--mirror",), ("--key", "E6L1:E6L-0001:" + "5a" * 32)])
def test_the_virtual_device_is_a_program_of_its_own(tmp_path, signal_uv, options):
    path = tmp_path / "source.ecg.npz"
    write_npz(path, record_from_physical(signal_uv, unit="uV", fs_hz=500.0, leads=("I", "II")))
    command = [
        sys.executable,
        "-m",
        "firmware_bridge.sim.air.serial_device",
        "--record",
        str(path),
        "--speed",
        "20",
        *options,
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as device:
        ready = json.loads(device.stdout.readline())
        transport = SerialTransport(ready["port"])
        result = asyncio.run(record_session(transport, seconds=4.0, allow_unauthenticated=True))
        device.stdin.close()
        assert device.wait(timeout=10) == 0
    assert ready["event"] == "ready"
    assert result.complete
    assert np.ptp(result.record.samples[1]) * result.record.lsb_uv > 1000
