"""The own profile (PROTOCOL.md) behind the interface of the drivers: descriptor, START, retransmission, STOP.

For tools that treat all devices alike. A session of the clinic's program does more: reconnecting, authenticity,
recordings kept in the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from firmware_bridge.assembly.recording import Recording
from firmware_bridge.drivers.base import DriverInfo, DriverStatistics, QualityInfo
from firmware_bridge.drivers.stream import ArrivalRate, with_remark
from firmware_bridge.drivers.track import MAX_SAMPLES
from firmware_bridge.protocol.control import Request, StartParams, decode_oldest, decode_reply, decode_start_reply
from firmware_bridge.protocol.descriptor import DeviceDescriptor, decode_descriptor
from firmware_bridge.protocol.profile import (
    CONTROL_UUID,
    DESCRIPTOR_UUID,
    INDEX_MODULUS,
    LIVE_UUID,
    SERVICE_UUID,
    STATUS_UUID,
    Feature,
    Op,
    ReplyStatus,
)
from lsemvae.ecg.errors import LengthError, ProtocolError, UnitError

if TYPE_CHECKING:
    from firmware_bridge.protocol.control import RetransmitParams
    from lsemvae.ecg.record import EcgRecord
    from lsemvae.ecg.runs import StartTime

# A reply or the samples of a retransmission that take longer are lost; the request is made again.
_RETRY_US: Final = 1_000_000
# Samples on the way in other order than sent are not missing yet.
_SETTLE_SAMPLES: Final = 100


def _info(descriptor: DeviceDescriptor | None) -> DriverInfo:
    return DriverInfo(
        name="e6l",
        title="E6L six-lead device",
        kind="ble",
        leads=("I", "II") if descriptor is None else descriptor.leads,
        fs_hz=500.0 if descriptor is None else descriptor.fs_hz,
        lsb_uv=None if descriptor is None else descriptor.lsb_uv,
        quality=QualityInfo(gap_detectable=True, calibrated=descriptor is not None, timestamped=True),
        service_uuids=(SERVICE_UUID,),
        notify=(CONTROL_UUID, LIVE_UUID, STATUS_UUID),
        read=(DESCRIPTOR_UUID,),
        write=CONTROL_UUID,
        write_response=True,
        min_mtu=39,
    )


class E6lDriver:
    """Leads, rate and scale come from the descriptor: feed it under its UUID before `begin`.

    Parameters
    ----------
    lsb_uv
        Refused unless None: the device states its scale.
    """

    def __init__(self, *, lsb_uv: float | None = None) -> None:
        if lsb_uv is not None:
            raise UnitError(f"found a weight of {lsb_uv} uV per code, expected none: the device's descriptor states it")
        self.info = _info(None)
        self.remarks: tuple[str, ...] = ()
        self._descriptor: DeviceDescriptor | None = None
        self._recording = Recording()
        self._txn = 0
        self._oldest: int | None = None
        self._asked: RetransmitParams | None = None
        self._asked_us = 0
        self._ended = self._full = False
        self._arrival = ArrivalRate()

    def begin(self) -> tuple[bytes, ...]:
        """Return START, raw 24 bits."""
        if self._descriptor is None:
            raise ProtocolError(
                f"found no descriptor, expected it before START (read {DESCRIPTOR_UUID})",
                advice="Read the characteristics of `info.read` and feed them, then begin.",
            )
        self._recording.begin(self._descriptor)
        return (self._request(Op.START, StartParams(n_samples=self._descriptor.preferred_samples).to_bytes()),)

    def poll(self, t_us: int) -> tuple[bytes, ...]:
        """Return RETRANSMIT for the first gap, one request at a time."""
        if self._ended or self._descriptor is None or not self._descriptor.features & Feature.RETRANSMIT:
            return ()
        if not self._recording.n_streams:
            return ()
        upto = max(0, self._recording.elapsed - _SETTLE_SAMPLES)
        requests = self._recording.retransmissions(upto=upto, oldest_index=self._oldest)
        if not requests:
            return ()
        asked = self._asked  # the newest request; what is part of it may be on its way
        on_its_way = asked is not None and (requests[0].t0 - asked.t0) % INDEX_MODULUS < asked.count
        if on_its_way and t_us - self._asked_us < _RETRY_US:
            return ()
        self._asked, self._asked_us = requests[0], t_us
        return (self._request(Op.RETRANSMIT, requests[0].to_bytes()),)

    def feed(self, channel: str, data: bytes, t_us: int) -> None:
        """Take a notification, an indication, or the descriptor that was read."""
        uuid = channel.lower()
        if uuid == LIVE_UUID and self._recording.n_streams:
            if self.elapsed < MAX_SAMPLES:
                if self._recording.feed_bytes(data) is not None:
                    self._arrival.observe(t_us, self.elapsed)
            elif not self._full:
                self._full = True
                self._remark(f"recording is full: found {self.elapsed} samples, expected at most {MAX_SAMPLES}")
            return
        try:
            if uuid == DESCRIPTOR_UUID:
                self._descriptor = decode_descriptor(data)
                self.info = _info(self._descriptor)
            elif uuid == CONTROL_UUID:
                reply = decode_reply(data)
                if reply.op is Op.START and reply.status is ReplyStatus.OK:
                    decode_start_reply(reply.data)
                elif reply.op is Op.RETRANSMIT and reply.status is ReplyStatus.EVICTED:
                    self._oldest = decode_oldest(reply.data)
                    self._asked = None
                elif reply.status is not ReplyStatus.OK:
                    self._remark(f"{reply.op.name} refused: {reply.status.name}")
        except ProtocolError as exc:
            self._remark(str(exc))

    def end(self) -> tuple[bytes, ...]:
        """Return STOP."""
        self._ended = True
        return (self._request(Op.STOP),)

    @property
    def elapsed(self) -> int:
        """Samples so far, gaps included."""
        return self._recording.elapsed

    @property
    def statistics(self) -> DriverStatistics:
        """What came so far."""
        counts = self._recording.statistics
        missing = self._recording.missing() if self._recording.n_streams else 0
        return DriverStatistics(
            packets=counts.frames,
            corrupt=counts.corrupt,
            malformed=counts.malformed + counts.implausible,
            lost_samples=missing,
            duplicates=counts.duplicates,
        )

    @property
    def rate_seen_hz(self) -> float | None:
        """Samples per second by their arrival, gaps included; None under 5 s."""
        return self._arrival.hz()

    def to_record(self, *, start: StartTime | None, device: str, record_id: str = "") -> EcgRecord:
        """Return the record of everything so far; what is missing is declared as gaps."""
        if not self._recording.n_streams or not self._recording.received:
            said = f"; the device said: {self.remarks[-1]}" if self.remarks else ""
            raise LengthError(f"found 0 received samples, expected at least 1{said}")
        record = self._recording.to_record(start=start, device=device, record_id=record_id)
        return record.with_(source=self.info.quality.source(self.info.name))

    def _request(self, op: Op, params: bytes = b"") -> bytes:
        self._txn = (self._txn + 1) & 0xFF
        return Request(op=op, txn=self._txn, params=params).to_bytes()

    def _remark(self, text: str) -> None:
        self.remarks = with_remark(self.remarks, text)
