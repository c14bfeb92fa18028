"""The memory of a virtual device for finished recordings: one slot, as a small microcontroller has."""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.protocol.bulk import BulkFrame, RecordReadParams, StoredRecording, encode_bulk, encode_recording
from firmware_bridge.protocol.profile import PREFERRED_FRAME_SAMPLES, ReplyStatus, bulk_data_bytes
from firmware_bridge.sim.device.front_end import FrontEnd

_ID_MODULUS: Final = 1 << 16

# 500 bulk frames a second at MTU 247 are 118 kB/s: what a virtual radio carries (119 kB/s measured over Bumble).
BULK_PERIOD_US: Final = 2_000


@dataclass(slots=True)
class Making:
    """A recording that is being made.

    Attributes
    ----------
    start_index
        Index since START of its first sample; None if there is no stream, and it reads the front end itself.
    """

    record_id: int
    start_us: int
    start_index: int | None
    wanted: int
    kept: int = 0
    blocks: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class _Read:
    offset: int
    stop: int
    due_us: int


class RecordingMemory:
    """One recording that is being made or kept, and the read of it."""

    def __init__(self) -> None:
        self.making: Making | None = None
        self._last_id = 0
        self._stored: StoredRecording | None = None
        self._data = b""
        self._read: _Read | None = None

    @property
    def reading(self) -> bool:
        """Whether bulk frames are still to come."""
        return self._read is not None

    @property
    def bulk_due_us(self) -> int | None:
        """When the next bulk frame is due."""
        return self._read.due_us if self._read else None

    def stored(self) -> tuple[StoredRecording, ...]:
        """Finished recordings."""
        return () if self._stored is None else (self._stored,)

    def arm(self, *, start_us: int, start_index: int | None, wanted: int) -> int:
        """Begin a recording; the finished one is dropped. Returns the new id: 1..65535, never 0."""
        self._last_id = max(1, (self._last_id + 1) % _ID_MODULUS)
        self._stored, self._data = None, b""
        self.making = Making(record_id=self._last_id, start_us=start_us, start_index=start_index, wanted=wanted)
        return self._last_id

    def keep(self, codes: NDArray[np.int32]) -> None:
        """Keep samples ``[lead, time]`` that follow the ones kept so far; finish the recording when it is full."""
        making = self.making
        if making is None:
            return
        wanted = codes[:, : making.wanted - making.kept]
        making.blocks.append(encode_recording(wanted))
        making.kept += wanted.shape[1]
        if making.kept == making.wanted:
            self.finish()

    def block_due_us(self, front_end: FrontEnd) -> int | None:
        """Return when the next block of a recording without a stream is complete; None if there is no such recording."""
        making = self.making
        if making is None:
            return None
        stop = min(making.kept + PREFERRED_FRAME_SAMPLES, making.wanted)
        return front_end.time_us(stop, start_us=making.start_us)

    def keep_block(self, front_end: FrontEnd) -> None:
        """Keep the next block of a recording without a stream; a signal that ends, ends it."""
        if self.making is None:
            return
        first, stop, last = front_end.span(self.making.kept, PREFERRED_FRAME_SAMPLES)
        self.keep(front_end.measure(first, stop))
        if last:
            self.finish()

    def finish(self) -> None:
        """End the recording with what it holds; nothing held, nothing kept."""
        making, self.making = self.making, None
        if making is None or making.kept == 0:
            return
        self._data = b"".join(making.blocks)
        self._stored = StoredRecording(
            record_id=making.record_id,
            start_us=making.start_us,
            start_index=making.start_index,
            n_samples=making.kept,
            crc32=binascii.crc32(self._data),
        )

    def delete(self, record_id: int) -> ReplyStatus:
        """Delete a finished recording, or abandon the one that is being made."""
        if self.making is not None and self.making.record_id == record_id:
            self.making = None
            return ReplyStatus.OK
        if self._stored is None or self._stored.record_id != record_id:
            return ReplyStatus.BAD_PARAMETER
        if self.reading:
            return ReplyStatus.BUSY
        self._stored, self._data = None, b""
        return ReplyStatus.OK

    def begin_read(self, params: RecordReadParams, *, now_us: int, linked: bool) -> ReplyStatus:
        """Prepare the bulk frames of a range."""
        known = self._stored is not None and self._stored.record_id == params.record_id
        stop = params.offset + params.length
        if not known or stop > len(self._data):
            return ReplyStatus.BAD_PARAMETER
        if self.reading:
            return ReplyStatus.BUSY
        if linked:
            self._read = _Read(offset=params.offset, stop=stop, due_us=now_us)
        return ReplyStatus.OK

    def end_read(self) -> None:
        """Forget what was to be sent."""
        self._read = None

    def next_bulk(self, *, mtu: int) -> list[bytes]:
        """Return the bulk frame that is due; none, and the end of the read, if the link is too narrow for a byte."""
        read, room = self._read, bulk_data_bytes(mtu)
        if read is None or room == 0:
            self._read = None
            return []
        data = self._data[read.offset : min(read.offset + room, read.stop)]
        frame = encode_bulk(BulkFrame(offset=read.offset, data=data))
        read.offset += len(data)
        read.due_us += BULK_PERIOD_US
        if read.offset == read.stop:
            self._read = None
        return [frame]
