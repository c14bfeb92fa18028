"""Samples that the radio lost: asked for again from the device's ring, then read from its own recording."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Final

from edge_app.link.client import Opened
from edge_app.link.stored import StoredReader, arm, find
from edge_app.session.events import EventKind
from edge_app.session.link import SessionLink
from edge_app.session.spool import EntryKind
from edge_app.session.state import SessionState
from firmware_bridge.protocol.bulk import StoredRecording
from firmware_bridge.protocol.control import decode_oldest
from firmware_bridge.protocol.profile import Feature, Op, ReplyStatus
from lsemvae.ecg.errors import LinkError, ProtocolError

# Gaps are asked for again every 5 s of signal, so that none grows as old as the device's ring (30 s); the newest second
# may still be in flight or out of order.
_REPAIR_EVERY_S: Final = 5.0
_REPAIR_MARGIN_S: Final = 1.0

# After STOP a round ends when nothing new came for half a second; two rounds without gain mean that the rest is lost.
_QUIET_S: Final = 0.5
_FRUITLESS_ROUNDS: Final = 2

# A recording of 30 s is read in seconds: a link that does not last for a fifth of it each time is no link.
_READ_CONNECTIONS: Final = 5


class Repair:
    """Closes gaps of the newest stream."""

    def __init__(self, state: SessionState, link: SessionLink) -> None:
        self._state = state
        self._link = link
        self._recording = state.recording

    def due_after(self, position: int) -> None:
        """Ask for gaps next when the stream has gone five seconds beyond `position`."""
        self._state.next_repair = position + round(_REPAIR_EVERY_S * self._recording.descriptor.fs_hz)

    async def when_due(self) -> None:
        """Ask for gaps, now and then, while the stream runs."""
        recording, state = self._recording, self._state
        if recording.elapsed < state.next_repair:
            return
        self.due_after(recording.elapsed)
        margin = round(_REPAIR_MARGIN_S * recording.descriptor.fs_hz)
        with state.noted(EventKind.REPAIR), suppress(LinkError):
            await self.request_missing(upto=max(0, recording.elapsed - margin))

    async def request_missing(self, *, upto: int) -> int:
        """Ask once for each gap up to `upto` and return how many are on their way; what has left the ring is passed over."""
        if not self._state.can(Feature.RETRANSMIT):
            return 0
        coming = 0
        oldest: int | None = None
        pending = list(self._recording.retransmissions(upto=upto))
        while pending:
            reply = await self._link.client.request(Op.RETRANSMIT, pending.pop(0).to_bytes())
            coming += reply.status is ReplyStatus.OK
            if reply.status is ReplyStatus.EVICTED and oldest is None:
                oldest = decode_oldest(reply.data)
                self._state.journal.note(EventKind.EVICTED, f"the device holds nothing before its sample {oldest}")
                pending = list(self._recording.retransmissions(upto=upto, oldest_index=oldest))
        return coming

    async def from_ring(self) -> None:
        """After STOP: ask until everything is here or cannot be had."""
        loop = self._state.loop
        fruitless = 0
        while fruitless < _FRUITLESS_ROUNDS and self._lacking():
            before = self._recording.received
            if self._link.lost and not await self._link.reconnect(self._same_device):
                return
            with self._state.noted(EventKind.REPAIR), suppress(LinkError):
                if not await self.request_missing(upto=self._state.upto()):
                    return  # the ring holds nothing of it
                received, since_s = -1, loop.time()
                while loop.time() - since_s < _QUIET_S and self._lacking():
                    if self._recording.received != received:
                        received, since_s = self._recording.received, loop.time()
                    await asyncio.sleep(_QUIET_S / 10)
            fruitless = 0 if self._recording.received > before else fruitless + 1

    async def arm(self) -> None:
        """Have the device keep what it measures; one that refuses is recorded without this second line."""
        state = self._state
        state.stored_id = None
        if not state.can(Feature.RECORD):
            return
        with state.noted(EventKind.STORED), suppress(LinkError):
            state.stored_id = await arm(self._link.client, seconds=state.wish.seconds)

    async def from_memory(self) -> None:
        """Fill what neither the radio nor the device's ring gave, from the recording that the device kept of this stream.

        It is read over as many connections as it takes; a device that was switched off meanwhile kept nothing.
        """
        state, journal = self._state, self._state.journal
        if state.stored_id is None or not self._lacking():
            return
        n_leads = len(self._recording.descriptor.leads)
        reader: StoredReader | None = None
        listed: StoredRecording | None = None
        try:
            with state.noted(EventKind.STORED):
                for _ in range(_READ_CONNECTIONS):
                    if self._link.lost and not await self._link.reconnect(self._same_device):
                        return
                    with suppress(LinkError):
                        listed = listed or await find(self._link.client, state.stored_id)
                        if listed is None or listed.start_index is None:
                            journal.note(EventKind.STORED, "the device has no recording of its own of this stream")
                            return
                        reader = reader or StoredReader(listed, n_leads=n_leads)
                        state.on_bulk = reader.feed
                        if await reader.read(self._link.client):
                            self._fill(listed, reader)
                            return
                    if not self._link.lost:
                        journal.note(EventKind.STORED, "the device's own recording could not be read whole")
                        return
        finally:
            state.on_bulk = None

    def _fill(self, listed: StoredRecording, reader: StoredReader) -> None:
        """Fill the gaps from a recording that was read whole, and have the safety copy say so."""
        stored = reader.codes()
        if stored is None:
            return
        upto = self._state.upto()
        filled = self._recording.fill(stored.first_index, stored.codes, upto=upto)
        entry = {
            "first_index": stored.first_index, "crc32": listed.crc32, "upto": upto,
            "n_bytes": listed.n_bytes(n_leads=len(self._recording.descriptor.leads)),
        }  # fmt: skip
        self._state.journal.put(EntryKind.STORED, json.dumps(entry).encode())
        self._state.journal.note(EventKind.STORED, f"{filled} samples filled in from the device's own recording")

    async def _same_device(self, opened: Opened) -> None:
        if opened.descriptor.boot_id != self._state.boot_id:
            raise ProtocolError(
                "found a device that was restarted, expected the one that still holds the samples",
                advice="The gaps stay as they are. Leave the device on until the recording has ended.",
            )

    def _lacking(self) -> bool:
        """Return whether there are gaps that may be filled: not those of an earlier stream or of a calibration pulse."""
        return bool(self._recording.retransmissions(upto=self._state.upto()))
