"""A virtual device whose state machine and encoder are the C core, the same code that a board runs.

`CoreDevice` is the board around it: a converter that plays a recording, a clock that is told the time, a radio queue that
takes everything, and a bulk queue as fast as a radio. For equal inputs it gives the same bytes as `VirtualDevice`.
"""

from __future__ import annotations

import itertools
from typing import Any, Final

import numpy as np

from firmware_bridge.protocol.bulk import StoredRecording
from firmware_bridge.protocol.profile import (
    NO_STREAM_INDEX,
    RECORDING_MAX_S,
    Contact,
    SelfTestFault,
    recording_samples,
)
from firmware_bridge.sim.device.core_build import bind_board, load_core, missing_for_core
from firmware_bridge.sim.device.device import TEMPERATURE_CENTI_C, Channel, Notification, VirtualDevice
from firmware_bridge.sim.device.memory import BULK_PERIOD_US, RecordingMemory
from firmware_bridge.sim.device.source import SOURCE_LEADS, SignalSource
from lsemvae.ecg.errors import LinkError

# E6L_CHANNEL_LIVE, _CONTROL, _STATUS, _BULK of e6l.h.
_CHANNELS: Final = (Channel.LIVE, Channel.CONTROL, Channel.STATUS, Channel.BULK)
_TAKEN: Final = 0
_QUEUE_FULL: Final = -1

# E6L_FRONT_END_START, _CALIBRATION, _SELF_TEST; this front-end has no power to save.
_START: Final = 0
_CALIBRATION: Final = 2
_SELF_TEST: Final = 3

_BYTES_PER_SAMPLE: Final = 3 * len(SOURCE_LEADS)
_ELECTRODES: Final = int(Contact.RA_OFF | Contact.LA_OFF | Contact.LL_OFF | Contact.RL_OFF)


def make_device(source: SignalSource, *, core: bool | None = None, **options: Any) -> VirtualDevice:
    """Return a virtual device: `core` True for the C core, False for pure Python, None for the C core where it can be built.

    Other parameters are those of `VirtualDevice`: boot_id, ring_s, key, features, calibration_nv, random_bytes.
    """
    wanted = not missing_for_core() if core is None else core
    return (CoreDevice if wanted else VirtualDevice)(source, **options)


class _CoreMemory(RecordingMemory):
    """What tests and players ask of the memory for recordings, answered by the core."""

    def __init__(self, device: CoreDevice) -> None:
        super().__init__()
        self._device = device

    @property
    def reading(self) -> bool:
        """Whether bulk frames are still to come."""
        return self._device.core_reading

    def stored(self) -> tuple[StoredRecording, ...]:
        """Finished recordings."""
        return self._device.core_stored()


class CoreDevice(VirtualDevice):
    """A `VirtualDevice` in C; parameters as there."""

    def __init__(self, source: SignalSource, **options: Any) -> None:
        core = load_core()
        self._ffi, self._lib = core.ffi, core.lib
        self._signal = source
        self._now_us = 0
        self._sent: list[Notification] = []
        self._failures: list[BaseException] = []
        self._hal = bind_board(core, self)
        self._core = core.ffi.new("e6l_device *")
        super().__init__(source, **options)

    def _forget(self) -> None:
        super()._forget()
        self.memory = _CoreMemory(self)
        self._bulk_due_us: int | None = None
        self._bulk_credit = 0
        self._status_wanted = False
        self._begin_core()

    def _begin_core(self) -> None:
        fs_mhz = self.front_end.fs_mhz
        ring_bytes = self._ring_samples * (_BYTES_PER_SAMPLE + 1)
        record_bytes = recording_samples(RECORDING_MAX_S, fs_mhz=fs_mhz) * _BYTES_PER_SAMPLE
        self._ring = self._ffi.new("uint8_t[]", ring_bytes)
        self._record = self._ffi.new("uint8_t[]", record_bytes)
        error = self._lib.e6l_device_init(
            self._core, self._hal[0], self.read_descriptor(), self._ring, ring_bytes, self._record, record_bytes
        )
        if error:
            raise LinkError(f"C core: found error {error} from e6l_device_init, expected 0")

    @property
    def running(self) -> bool:
        """Whether a stream runs."""
        return bool(self._core.running)

    @property
    def acquiring(self) -> bool:
        """Whether the front end is in use."""
        return bool(self._core.running or self._core.making)

    @property
    def calibrating(self) -> bool:
        """Whether the next sample holds the calibration pulse."""
        return bool(self._core.calibration_left)

    @property
    def core_reading(self) -> bool:
        """Whether bulk frames are still to come."""
        return bool(self._core.read_offset != self._core.read_stop)

    def core_stored(self) -> tuple[StoredRecording, ...]:
        """Finished recordings: one at most."""
        core = self._core
        if not core.stored:
            return ()
        start = None if core.recording_index == NO_STREAM_INDEX else int(core.recording_index)
        recording = StoredRecording(
            record_id=core.recording_id,
            start_us=core.recording_us,
            start_index=start,
            n_samples=core.recording_kept,
            crc32=core.recording_crc,
        )
        return (recording,)

    @property
    def next_index(self) -> int:
        """Samples acquired since START."""
        return int(self._core.next)  # modulo 2^32: a simulation of 99 days at 500 Hz does not happen

    @property
    def oldest_index(self) -> int:
        """Oldest sample still in the ring."""
        return int(self._lib.e6l_device_oldest(self._core))

    def read_status(self) -> bytes:
        """Return the value of the status characteristic."""
        out = self._ffi.new("uint8_t[20]")
        self._lib.e6l_device_status(self._core, out)
        return bytes(out)

    def may_update(self) -> bool:
        """Return whether a firmware update may begin, as far as the device knows; the link must be encrypted as well."""
        return bool(self._lib.e6l_may_update(self._core))

    def power_on(self) -> None:
        """Come back with an empty ring and a new boot number; an empty battery was exchanged."""
        super().power_on()
        self._begin_core()

    def link_up(self, *, mtu: int) -> None:
        """Take up a link: a host connected; no samples are sent before START."""
        super().link_up(mtu=mtu)
        self._lib.e6l_device_link(self._core, mtu)

    def link_down(self) -> None:
        """Give up the link: the host is gone; acquisition goes on."""
        super().link_down()
        self._lib.e6l_device_link(self._core, 0)
        self._bulk_due_us = None

    def next_due_us(self) -> int | None:
        """Device time at which something will be ready to send or to keep; None while nothing goes on."""
        due = [time for time in (self._block_due_us(), self._bulk_due_us) if time is not None]
        return min(due) if due else None

    def control(self, data: bytes, *, now_us: int) -> list[Notification]:
        """Answer a request written to the control characteristic."""
        self._now_us = now_us
        was_reading = self.core_reading
        self._lib.e6l_device_control(self._core, bytes(data), len(data))
        if self.core_reading and not was_reading:
            self._bulk_due_us = now_us
        return self._take()

    def advance(self, now_us: int) -> list[Notification]:
        """Acquire up to `now_us`; return the frames and the status that became due, if a host listens."""
        self._now_us = now_us
        while (event_us := self.next_due_us()) is not None and event_us <= now_us:
            if event_us == self._block_due_us():
                self._convert()
            else:  # room for one bulk frame in the queue
                self._bulk_credit = 1
                self._lib.e6l_device_tick(self._core)
                self._bulk_credit = 0
                self._bulk_due_us = event_us + BULK_PERIOD_US if self.core_reading else None
        self._status_wanted = True
        self._lib.e6l_device_tick(self._core)
        self._status_wanted = False
        return self._take()

    def _block_due_us(self) -> int | None:
        core = self._core
        if core.running:
            return self.front_end.time_us(core.next + core.frame_samples, start_us=core.start_us)
        if not core.making:
            return None
        stop = min(core.recording_kept + core.preferred, core.recording_wanted)
        return self.front_end.time_us(stop, start_us=core.recording_us)

    def _convert(self) -> None:
        """Let the converter deliver the next block, in runs of equal contact; saturation is for the core to see."""
        core, streaming = self._core, bool(self._core.running)
        first, wanted = (core.next, core.frame_samples) if streaming else (core.recording_kept, core.preferred)
        first, stop, last = self.front_end.span(first, wanted)
        codes, _, _ = self.front_end.read(first, stop)
        interleaved = np.ascontiguousarray(codes.T, dtype=np.int32)
        contact = self._signal.contact[np.arange(first, stop) % self._signal.n_samples] & _ELECTRODES
        edges = [0, *(np.flatnonzero(np.diff(contact)) + 1).tolist(), stop - first]
        for low, high in itertools.pairwise(edges):
            samples = self._ffi.from_buffer("int32_t[]", interleaved[low:high])
            self._lib.e6l_device_samples(core, samples, high - low, int(contact[low]))
        if last:
            self._lib.e6l_device_end(core)

    def _take(self) -> list[Notification]:
        if self._failures:
            raise self._failures.pop()
        sent, self._sent = self._sent, []
        return sent

    # What the core asks of its board: the functions of e6l_hal.

    def hal_send(self, _ctx: Any, channel: int, data: Any, length: int) -> int:
        """Queue a notification."""
        kind = _CHANNELS[channel]
        if kind is Channel.BULK:
            if not self._bulk_credit:
                return _QUEUE_FULL
            self._bulk_credit -= 1
        if kind is Channel.STATUS and not self._status_wanted:
            return _QUEUE_FULL  # within one step of simulated time the status comes last
        self._sent.append(Notification(kind, bytes(self._ffi.buffer(data, length))))
        return _TAKEN

    def hal_now_us(self, _ctx: Any) -> int:
        """Device time."""
        return self._now_us

    def hal_front_end(self, _ctx: Any, command: int, value: int) -> int:
        """Start, stop, pulse, self-test."""
        pulse = self.front_end.pulse
        if command == _START:
            pulse.reset()
            return 0 if self.front_end.start() else -1
        if command == _CALIBRATION:
            pulse.end(self.next_index)
            if value:
                pulse.begin(self.next_index, n_samples=recording_samples(value, fs_mhz=self.front_end.fs_mhz))
        if command == _SELF_TEST:
            self.front_end.start()
            return int(self.front_end.faults & ~(SelfTestFault.BATTERY_LOW | SelfTestFault.NO_DEVICE_KEY))
        return 0

    def hal_random_bytes(self, _ctx: Any, out: Any, n: int) -> None:
        """Write a nonce."""
        self._ffi.memmove(out, self.random_bytes(n), n)

    def hal_device_key(self, _ctx: Any, out: Any) -> int:
        """Write the device key; return -1 if there is none."""
        if self.key is None:
            return -1
        self._ffi.memmove(out, self.key.secret, len(self.key.secret))
        return 0

    def hal_power(self, _ctx: Any, mv: Any, percent: Any, centi_c: Any) -> None:
        """Battery and temperature."""
        mv[0], percent[0], centi_c[0] = self.battery_mv, self.battery_percent, TEMPERATURE_CENTI_C

    def hal_failed(self, _kind: Any, error: BaseException, _traceback: Any) -> None:
        """Keep an exception, which cannot pass through C, until the call has ended."""
        self._failures.append(error)
