"""The stream of a session: begun, gone on with after a lost link, begun afresh after a power cut, ended."""

from __future__ import annotations

import json
from contextlib import suppress

from edge_app.link.client import Opened
from edge_app.session.events import EventKind
from edge_app.session.link import SessionLink
from edge_app.session.repair import Repair
from edge_app.session.spool import EntryKind
from edge_app.session.state import SessionState
from firmware_bridge.protocol.control import (
    StartParams,
    decode_start_reply,
    decode_stop_reply,
    decode_time_reply,
    encode_time,
)
from firmware_bridge.protocol.descriptor import DeviceDescriptor
from firmware_bridge.protocol.profile import NO_START_FLAGS, Feature, Op, ReplyStatus, SampleCodec, StartFlag
from lsemvae.ecg.errors import LinkError, ProtocolError

__all__ = ["Stream", "WeightError", "check_weight", "choose_codec"]

# In order of preference: 24 bits lose nothing.
_CODECS = (SampleCodec.RAW24, SampleCodec.RAW16)


class WeightError(ProtocolError):
    """The device streams at another weight per code than it describes."""


class Stream:
    """START, RESUME and STOP of the device behind `link`."""

    def __init__(self, state: SessionState, link: SessionLink, repair: Repair) -> None:
        self._state = state
        self._link = link
        self._repair = repair

    async def start(self, opened: Opened, *, at: int) -> None:
        """Begin a stream at position `at` of the recording, and have the device keep it as well."""
        state, client = self._state, self._link.client
        state.codec = choose_codec(opened.descriptor)
        self._begin(opened, at=at)
        reply = await client.request(Op.START, self._params(opened))
        if reply.status is ReplyStatus.BUSY:
            await client.command(Op.STOP)
            reply = await client.request(Op.START, self._params(opened))
        started = decode_start_reply(client.accepted(reply).data)
        check_weight(started.lsb_pv, opened.descriptor.lsb_pv)
        state.intake.last_growth_s = state.loop.time()
        if not state.recording.received:
            state.intake.last_sample_s = state.intake.last_growth_s
        state.intake.note(EventKind.STARTED, f"stream {started.stream_id}, {started.n_samples} samples per frame")
        await self._repair.arm()

    async def go_on(self, opened: Opened) -> None:
        """After a reconnect: the stream that still runs, or a fresh one of a device that was switched off."""
        if opened.descriptor.boot_id == self._state.boot_id:
            await self._resume(opened)
        else:
            await self._restart(opened)

    async def stop(self) -> None:
        """A link that is lost just now, or an answer that makes no sense, is no reason to do without the rest."""
        state = self._state
        with state.noted(EventKind.FAULT), suppress(LinkError):
            reply = await self._link.client.request(Op.STOP)
            state.stopped = True
            if reply.status is ReplyStatus.OK:
                state.end = state.recording.stream_position(decode_stop_reply(reply.data).next_index)
                state.intake.note(EventKind.STOPPED, f"device stopped at sample {state.end}")

    def _begin(self, opened: Opened, *, at: int) -> None:
        """Open the stream in recording and sink, with the time before START: no sample of it can be older."""
        state, intake = self._state, self._state.intake
        t_us = None if state.pace is None else intake.t_us
        pace = 1.0 if state.pace is None else state.pace
        state.recording.begin(opened.descriptor, at=at, codec=state.codec, t_us=t_us, pace=pace)
        intake.put(EntryKind.DESCRIPTOR, opened.descriptor_bytes)
        entry = {"at": at, "codec": int(state.codec), "t_us": t_us, "pace": pace}
        intake.put(EntryKind.STREAM, json.dumps(entry).encode())
        intake.battery_percent = opened.status.battery_percent
        state.boot_id = opened.descriptor.boot_id
        state.stored_id = None
        self._repair.due_after(at)

    async def _resume(self, opened: Opened) -> None:
        state, client = self._state, self._link.client
        reply = await client.request(Op.START, self._params(opened, flags=StartFlag.RESUME))
        if reply.status is ReplyStatus.NO_STREAM:
            state.end = state.recording.stream_position(opened.status.next_index)
            return
        decode_start_reply(client.accepted(reply).data)
        state.intake.last_growth_s = state.loop.time()
        position = state.recording.stream_position(await self._next_index(opened))
        state.intake.note(EventKind.RESUMED, f"the device is at sample {position}")
        with state.noted(EventKind.REPAIR):
            await self._repair.request_missing(upto=min(state.target, position))
        self._repair.due_after(position)  # the hole is on its way

    async def _next_index(self, opened: Opened) -> int:
        """Where the device is; one that cannot tell the time said it in the status that was read after the connect."""
        if opened.descriptor.features & Feature.TIME_SYNC:
            with self._state.noted(EventKind.REPAIR):
                reply = await self._link.client.command(Op.TIME, encode_time(self._state.intake.t_us))
                return decode_time_reply(reply.data).index
        return opened.status.next_index

    async def _restart(self, opened: Opened) -> None:
        """A device that lost its power lost its count: only the host's clock knows how long it was away."""
        state = self._state
        position = state.intake.clock.position_at(state.loop.time(), fs_hz=opened.descriptor.fs_hz)
        at = max(state.recording.elapsed, position)
        state.intake.note(EventKind.RESTARTED, f"the device was restarted; gap up to sample {at} by the host's clock")
        if at >= state.target:
            state.end = state.recording.elapsed
            return
        await self.start(opened, at=at)

    def _params(self, opened: Opened, *, flags: StartFlag = NO_START_FLAGS) -> bytes:
        n_samples = opened.descriptor.preferred_samples
        return StartParams(codec=self._state.codec, n_samples=n_samples, flags=flags).to_bytes()


def choose_codec(descriptor: DeviceDescriptor) -> SampleCodec:
    """The codec to ask for.

    Raises
    ------
    ProtocolError
        The device has none that this program unpacks.
    """
    for codec in _CODECS:
        if descriptor.codecs >> codec & 1:
            return codec
    raise ProtocolError(
        f"found a device with codecs 0x{descriptor.codecs:02x}, expected raw24 (bit 0) or raw16 (bit 1)",
        advice="Update this program, or the device's firmware.",
    )


def check_weight(started_pv: int, described_pv: int) -> None:
    """A stream whose codes weigh other than described would be recorded at a wrong amplitude: it is not recorded."""
    if started_pv not in (0, described_pv):
        raise WeightError(
            f"found a stream of {started_pv} pV per code, expected {described_pv} as in the descriptor",
            advice="Update the device's firmware: this app records streams at the descriptor's weight only.",
        )
