"""The recording that a device keeps in its own memory: the second line behind retransmission.

RECORD_ARM at START makes the device keep what it measures. What the radio lost and the device's ring no longer holds is
read back afterwards: whole, so that the CRC-32 of the list covers every byte that is used.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_app.link.client import DeviceClient
from firmware_bridge.protocol.bulk import (
    BulkAssembler,
    RecordArmParams,
    RecordReadParams,
    StoredRecording,
    decode_record_id,
    decode_record_list_reply,
    decode_recording,
    encode_record_list,
)
from firmware_bridge.protocol.errors import BulkError
from firmware_bridge.protocol.profile import RECORDING_MAX_S, RECORDING_MIN_S, Op, ReplyStatus

# Bulk frames follow each other within a connection interval: half a second of silence means that no more will come.
_QUIET_S: Final = 0.5
_TICK_S: Final = 0.02
_FRUITLESS_ROUNDS: Final = 3

# A read may still run when it is asked for again; the device says BUSY until it is through.
_BUSY_S: Final = 0.25

# The longest recording that a device may announce: 30 s at 2 kHz of 4 leads in 24 bits, rounded up.
MAX_RECORDING_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class StoredCodes:
    """A recording read back whole.

    Attributes
    ----------
    first_index
        Index since START of its first sample, as on the wire.
    codes
        int32 ``[lead, time]``, device codes.
    """

    first_index: int
    codes: NDArray[np.int32]


def armed_seconds(seconds: float) -> int:
    """Return what to arm a device with for a recording of `seconds`: 10 to 30 s, the limits of RECORD_ARM."""
    return min(RECORDING_MAX_S, max(RECORDING_MIN_S, math.ceil(seconds)))


async def arm(client: DeviceClient, *, seconds: float) -> int:
    """Have the device keep what it measures from now on; return the number of the recording.

    Raises
    ------
    ProtocolError
        The device refuses.
    """
    params = RecordArmParams(seconds=armed_seconds(seconds)).to_bytes()
    return decode_record_id((await client.command(Op.RECORD_ARM, params)).data)


async def find(client: DeviceClient, record_id: int) -> StoredRecording | None:
    """Return the finished recording `record_id`, or None if the device does not list it."""
    index, count = 0, 1
    while index < count:
        reply = await client.command(Op.RECORD_LIST, encode_record_list(index))
        listed = decode_record_list_reply(reply.data)
        if listed.recording is not None and listed.recording.record_id == record_id:
            return listed.recording
        index, count = index + 1, listed.count
    return None


class StoredReader:
    """Reads one recording, over as many connections as it takes: what came once is not asked for again.

    Its `feed` gets every bulk frame.
    """

    def __init__(self, recording: StoredRecording, *, n_leads: int) -> None:
        n_bytes = recording.n_bytes(n_leads=n_leads)
        if n_bytes > MAX_RECORDING_BYTES:
            raise BulkError(f"stored recording: found {n_bytes} bytes, expected at most {MAX_RECORDING_BYTES}")
        self._recording = recording
        self._n_leads = n_leads
        self._assembler = BulkAssembler(n_bytes)
        self._frames = 0

    @property
    def complete(self) -> bool:
        """Whether every byte is here."""
        return self._assembler.complete

    def feed(self, data: bytes) -> None:
        """Take a bulk frame."""
        self._frames += 1
        self._assembler.feed(data)

    async def read(self, client: DeviceClient) -> bool:
        """Ask for what is missing until it is here or rounds bring nothing; return whether it is complete.

        Raises
        ------
        LinkError
            The link was lost; call again with the next connection.
        ProtocolError
            The device refuses.
        """
        loop = asyncio.get_running_loop()
        fruitless = 0
        while not self.complete and fruitless < _FRUITLESS_ROUNDS:
            before = self._assembler.missing()
            offset, length = before[0]
            params = RecordReadParams(record_id=self._recording.record_id, offset=offset, length=length).to_bytes()
            reply = await client.request(Op.RECORD_READ, params)
            if reply.status is ReplyStatus.BUSY:
                await asyncio.sleep(_BUSY_S)
            else:
                client.accepted(reply)
            # Wait while frames come and bytes of what was asked for are missing.
            frames, since_s = self._frames, loop.time()
            while loop.time() - since_s < _QUIET_S:
                missing = self._assembler.missing()
                if not missing or missing[0][0] >= offset + length:
                    break
                await asyncio.sleep(_TICK_S)
                if self._frames != frames:
                    frames, since_s = self._frames, loop.time()
            fruitless = fruitless + 1 if self._assembler.missing() == before else 0
        return self.complete

    def codes(self) -> StoredCodes | None:
        """Return what was read; None for a recording that was made without a stream.

        Raises
        ------
        BulkError
            Bytes are missing, or the CRC-32 differs from the one in the list.
        """
        data = self._assembler.bytes(crc32=self._recording.crc32)
        if self._recording.start_index is None:
            return None
        return StoredCodes(first_index=self._recording.start_index, codes=decode_recording(data, n_leads=self._n_leads))
