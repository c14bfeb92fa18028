"""Who is on the other end: no sample of a device that did not prove its key, at the first connect and at each later one."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from edge_app.link.inprocess import InProcessTransport
from edge_app.session import DeviceNotAuthenticatedError, EventKind, SessionResult, record_session
from edge_app.session.spool import EntryKind
from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.protocol.codec import LiveFrame, encode_frame
from firmware_bridge.protocol.descriptor import decode_descriptor, encode_descriptor
from firmware_bridge.protocol.profile import Contact, FrameFlag, Op, ReplyStatus, SampleCodec
from firmware_bridge.sim.air.faults import Faults
from firmware_bridge.sim.air.player import DevicePlayer
from firmware_bridge.sim.device.core_device import make_device
from firmware_bridge.sim.device.device import Channel, Notification, VirtualDevice
from firmware_bridge.sim.device.source import source_from_uv
from lsemvae.ecg.errors import LinkError, ProtocolError
from lsemvae.ecg.source import SourceInfo
from tests.edge_app.session.away import AwayTransport

SPEED = 20.0
KEY = DeviceKey(name="E6L-0042", secret=bytes(range(32)))
OTHER = DeviceKey(name="E6L-0043", secret=bytes(range(1, 33)))
TRUSTED = partial(VirtualDevice, key=KEY)


class Kept:
    """A sink that remembers what it was given."""

    def __init__(self) -> None:
        self.kinds: list[EntryKind] = []

    def append(self, kind, payload, *, t_us):
        self.kinds.append(kind)

    def sync(self):
        pass


def record(transport: InProcessTransport, *, seconds: float = 3.0, **options) -> SessionResult:
    return asyncio.run(record_session(transport, seconds=seconds, **options))


def events(result: SessionResult, kind: EventKind) -> list[str]:
    return [event.message for event in result.events if event.kind is kind]


def refused(transport: InProcessTransport, match: str, **options) -> DeviceNotAuthenticatedError:
    """The error of a session that must not begin; not a sample was taken, and the link is free again."""
    sink = Kept()
    with pytest.raises(DeviceNotAuthenticatedError, match=match) as caught:
        record(transport, sink=sink, **options)
    assert caught.value.code == "E_DEVICE_NOT_AUTHENTICATED"
    assert caught.value.advice
    assert isinstance(caught.value, LinkError)
    assert EntryKind.LIVE not in sink.kinds
    assert transport.player.device.stream is None
    assert not transport._connected
    return caught.value


def test_a_device_that_proves_a_known_key_is_recorded_and_the_record_says_so(source, equals_source):
    result = record(InProcessTransport(source, speed=SPEED, device=TRUSTED), keys=(OTHER, KEY))
    assert result.complete
    assert result.record.source == SourceInfo(driver="e6l", authenticated=True)
    assert events(result, EventKind.AUTHENTICATED) == [f"key of E6L-0042 ({KEY.fingerprint})"]
    assert KEY.secret.hex() not in repr(result.events)
    equals_source(result.record)


@pytest.mark.promise(134)
def test_a_device_with_another_key_is_refused(source):
    error = refused(InProcessTransport(source, device=TRUSTED), "none of 1 known keys gives", keys=(OTHER,))
    assert "another one may be answering" in error.advice


def test_a_device_is_refused_where_no_key_is_known_with_the_way_to_trust_it(source):
    error = refused(InProcessTransport(source, device=TRUSTED), "does not know")
    assert "edge_app devices trust" in error.advice


@pytest.mark.promise(134)
def test_a_device_without_a_key_is_refused(source):
    error = refused(InProcessTransport(source), "found a device without a key", keys=(KEY,))
    assert "--allow-unauthenticated" in error.advice


@pytest.mark.promise(134)
@pytest.mark.parametrize(("device", "keys"), [(VirtualDevice, (KEY,)), (TRUSTED, ()), (TRUSTED, (OTHER,))])
def test_what_is_allowed_without_a_proof_is_marked(source, equals_source, device, keys):
    transport = InProcessTransport(source, speed=SPEED, device=device)
    result = record(transport, keys=keys, allow_unauthenticated=True)
    assert result.complete
    assert result.record.source == SourceInfo(driver="e6l", authenticated=False)
    (remark,) = events(result, EventKind.UNAUTHENTICATED)
    assert "the recording is marked" in remark
    equals_source(result.record)


class AnswersTransport(InProcessTransport):
    """Changes the replies to AUTHENTICATE with `change`."""

    def __init__(self, *args, change, **options):
        super().__init__(*args, device=TRUSTED, **options)
        self._change = change

    async def send(self, notification):
        data = notification.data
        if notification.channel is Channel.CONTROL and data[0] == 0x80 | Op.AUTHENTICATE:
            data = self._change(data)
        await super().send(Notification(notification.channel, data))


@pytest.mark.parametrize("status", [ReplyStatus.NOT_AUTHENTICATED, ReplyStatus.BAD_OP])
def test_a_device_that_announces_a_key_and_has_none_is_refused(source, status):
    transport = AnswersTransport(source, change=lambda data: data[:2] + bytes((status,)))
    refused(transport, "found a device without a key", keys=(KEY,))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:2] + bytes((ReplyStatus.BUSY,)),
        lambda data: data[:-1],
        lambda data: data[:3],
        lambda data: data + b"\0",
    ],
    ids=["busy", "short", "empty", "long"],
)
def test_an_answer_that_makes_no_sense_is_no_proof(source, change):
    refused(AnswersTransport(source, change=change), "found no proof of a key", keys=(KEY,))


@pytest.mark.parametrize("position", [3, 18, 19, 34])
def test_a_changed_bit_in_nonce_or_tag_is_no_proof(source, position):
    def flip(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[position] ^= 1
        return bytes(changed)

    refused(AnswersTransport(source, change=flip), "none of 1 known keys gives", keys=(KEY,))


@pytest.mark.promise(134)
def test_an_answer_that_was_recorded_earlier_is_no_proof(source):
    heard: list[bytes] = []

    def replay(data: bytes) -> bytes:
        heard.append(data)
        return data[:2] + heard[0][2:]

    assert record(AnswersTransport(source, change=replay, speed=SPEED), keys=(KEY,), seconds=1.0).complete
    refused(AnswersTransport(source, change=replay), "none of 1 known keys gives", keys=(KEY,))
    assert len(heard) == 2


def test_a_descriptor_that_was_changed_on_the_way_is_no_proof(source):
    """Twice the weight per code would double every amplitude."""

    class Doubles(InProcessTransport):
        async def read_descriptor(self):
            told = decode_descriptor(await super().read_descriptor())
            return encode_descriptor(replace(told, lsb_pv=2 * told.lsb_pv))

    refused(Doubles(source, device=TRUSTED), "none of 1 known keys gives", keys=(KEY,))


def test_packets_too_small_for_an_answer_are_named_as_that(source):
    with pytest.raises(ProtocolError, match="AUTHENTICATE: found MTU_TOO_SMALL") as caught:
        record(InProcessTransport(source, device=TRUSTED, mtu=38), keys=(KEY,))
    assert "adapter" in caught.value.advice


@pytest.mark.promise(134)
def test_a_device_that_comes_back_proves_its_key_again(source, equals_source):
    asked: list[bytes] = []

    def listen(data: bytes) -> bytes:
        asked.append(data)
        return data

    class Comes(AnswersTransport, AwayTransport):
        pass

    transport = Comes(source, change=listen, speed=SPEED, faults=Faults(disconnect_at=60), attempts=1)
    result = record(transport, keys=(KEY,), seconds=10.0)
    assert result.statistics.reconnects == 1
    assert len(asked) == 2
    assert asked[0] != asked[1]
    assert result.complete
    assert result.record.source.authenticated is True
    equals_source(result.record)


def impostor(signal_uv: np.ndarray, *, key: DeviceKey | None, boot_id: int):
    """Have another device answer under the same name and address once the first one is gone; it lies about the signal."""

    def take_over(transport: AwayTransport) -> None:
        lying = source_from_uv(-3 * signal_uv, fs_hz=500.0)
        transport.player = DevicePlayer(VirtualDevice(lying, boot_id=boot_id, key=key), speed=SPEED)

    return take_over


@pytest.mark.promise(135)
@pytest.mark.parametrize("key", [OTHER, None], ids=["other key", "no key"])
@pytest.mark.parametrize("boot_id", [1, 99])
@pytest.mark.parametrize("allowed", [False, True])
def test_an_impostor_that_takes_over_in_the_middle_is_refused_and_what_was_recorded_stays(
    source, signal_uv, equals_source, key, boot_id, allowed
):
    transport = AwayTransport(
        source, speed=SPEED, faults=Faults(drop=0.1, disconnect_at=60), attempts=1, device=TRUSTED,
        on_return=impostor(signal_uv, key=key, boot_id=boot_id),
    )  # fmt: skip
    begun_s = time.monotonic()
    result = record(transport, keys=(KEY, OTHER)[:1], allow_unauthenticated=allowed, seconds=10.0)
    assert time.monotonic() - begun_s < 5.0, "waiting does not make it another device"
    (fault,) = events(result, EventKind.FAULT)
    assert fault.startswith("E_DEVICE_NOT_AUTHENTICATED")
    assert events(result, EventKind.RESUMED) == events(result, EventKind.RESTARTED) == []
    assert transport.player.device.stream is None
    assert result.record.n_samples <= 1500
    assert result.record.gaps
    assert not result.complete
    assert result.statistics.missing_samples == sum(gap.n_samples for gap in result.record.gaps)
    assert result.record.source.authenticated is True
    equals_source(result.record)


def test_a_second_trusted_device_cannot_continue_the_recording_of_the_first(source, signal_uv, equals_source):
    transport = AwayTransport(
        source, speed=SPEED, faults=Faults(disconnect_at=60), attempts=1, device=TRUSTED,
        on_return=impostor(signal_uv, key=OTHER, boot_id=1),
    )  # fmt: skip
    result = record(transport, keys=(KEY, OTHER), seconds=10.0)
    assert events(result, EventKind.FAULT)
    assert result.record.n_samples == 1500
    equals_source(result.record)


@pytest.mark.promise(134)
def test_frames_that_come_before_the_proof_are_not_samples(source, signal_uv, equals_source):
    """An impostor may push valid frames with the right indices as soon as somebody listens."""
    codes = np.full((2, 25), 777_777, dtype=np.int32)

    class Pushes(AwayTransport):
        pushed = 0

        async def subscribe(self, *, on_live, on_control, on_status=None, on_bulk=None):
            await super().subscribe(on_live=on_live, on_control=on_control, on_status=on_status, on_bulk=on_bulk)
            for t0 in (0, 1500, 1525):
                frame = LiveFrame(
                    codec=SampleCodec.RAW24, flags=FrameFlag(0), seq=t0 // 25, t0=t0, contact=Contact(0), samples=codes
                )
                on_live(encode_frame(frame))
                self.pushed += 1

    transport = Pushes(
        source, speed=SPEED, faults=Faults(disconnect_at=60), attempts=1, device=TRUSTED,
        on_return=impostor(signal_uv, key=OTHER, boot_id=1),
    )  # fmt: skip
    result = record(transport, keys=(KEY,), seconds=10.0)
    assert transport.pushed == 6
    assert result.record.n_samples == 1500
    equals_source(result.record)


def test_a_challenge_is_never_used_twice(source):
    challenges: set[bytes] = set()

    class Listens(InProcessTransport):
        async def write_control(self, request):
            if request[0] == Op.AUTHENTICATE:
                challenges.add(bytes(request[2:]))
            await super().write_control(request)

    for _ in range(5):
        refused(Listens(source, device=TRUSTED), "known keys", keys=(OTHER,))
    assert len(challenges) == 5
    assert all(len(challenge) == 16 for challenge in challenges)


@pytest.mark.usefixtures("needs_core")
def test_the_c_core_s_proof_is_a_proof_and_its_refusal_a_refusal(source, equals_source):
    core = partial(make_device, core=True, key=KEY)
    result = record(InProcessTransport(source, speed=SPEED, device=core), keys=(KEY,))
    assert result.record.source.authenticated is True
    assert result.complete
    equals_source(result.record)
    with pytest.raises(DeviceNotAuthenticatedError):
        record(InProcessTransport(source, speed=SPEED, device=core), keys=(OTHER,))
