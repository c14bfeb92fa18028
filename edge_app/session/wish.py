"""What a recording is asked for: how long, whose devices may be recorded, and through which driver.

A wish is made once, by whoever asks for the recording, and handed on unchanged.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from lsemvae.ecg.errors import FormatError, LengthError, RateError
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.runs import StartTime

if TYPE_CHECKING:
    from firmware_bridge.drivers.base import Driver
    from firmware_bridge.protocol.authenticity import DeviceKey

# Seconds of the device per second of this computer, unless the device is a simulation.
REAL_TIME: Final = 1.0

# Frames come every 50 ms and the supervision time-out of a link is 4 s at most: silence of 3 s means a hanging device.
WATCHDOG_S: Final = 3.0
RECONNECT_FOR_S: Final = 15.0
# Boards restart when their port is opened, others measure only once electrodes are on.
FIRST_SAMPLE_S: Final = 10.0

_SEE: Final = "docs/reference/devices.md says which device needs which driver and which options."


@dataclass(frozen=True, slots=True)
class DriverChoice:
    """A driver of another maker's protocol with its parameters: all that is needed to read the device's bytes again."""

    name: str
    lsb_uv: float | None = None
    options: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def parse(cls, name: str, *, lsb_uv: float | None, texts: Sequence[str]) -> Self:
        """Read the parameters as the command line gives them, each ``NAME=VALUE``.

        Raises
        ------
        FormatError
            The driver or an option is unknown, or a value has the wrong form.
        """
        from firmware_bridge.drivers import catalogue, make

        if name not in catalogue:
            make(name)  # raises, with the list
        defaults = {
            key: parameter.default
            for key, parameter in inspect.signature(catalogue[name]).parameters.items()
            if key != "lsb_uv"
        }
        options: dict[str, object] = {}
        for text in texts:
            key, separator, value = text.partition("=")
            if not separator or key not in defaults:
                names = ", ".join(defaults) or "none"
                raise FormatError(
                    f"found driver option {text!r}, expected NAME=VALUE with one of: {names}", advice=_SEE
                )
            default = defaults[key]
            options[key] = value
            # `plain_channels` has no default that tells its kind; no text of an option is a bare number.
            if isinstance(default, int | float) or (default is None and value.isdigit()):
                kind = int if isinstance(default, int) or default is None else float
                try:
                    options[key] = kind(value)
                except ValueError:
                    raise FormatError(f"{name}: found {key}={value}, expected a number", advice=_SEE) from None
        return cls(name=name, lsb_uv=lsb_uv, options=options)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(name=str(values["name"]), lsb_uv=values["lsb_uv"], options=dict(values["options"]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"name": self.name, "lsb_uv": self.lsb_uv, "options": dict(self.options)}

    def make(self) -> Driver:
        """Return a fresh driver, for one recording."""
        from firmware_bridge.drivers import make

        return make(self.name, lsb_uv=self.lsb_uv, **self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to record.

    Attributes
    ----------
    seconds
        Length of the signal.
    driver
        Driver of another maker's protocol; None: the device speaks the six-lead profile.
    keys, allow_unauthenticated
        Keys of the devices that may be recorded, and whether one that proves none of them may be as well; its record is
        marked (``record.source.authenticated``). Devices of other makers prove no key.
    pace
        Seconds of the device per second of this computer: 1.0 for a real one. With it no sample is taken that cannot
        exist yet, and the drift of the device's clock is told. A transport that knows better is believed; None: unknown.
    device
        What the record says about its device; empty: the name of the link's other end.
    start, record_id
        Go into the record; whoever asks owns the wall clock (`edge_app.session.recorder` fills both in).
    watchdog_s, reconnect_for_s, first_sample_s
        Silence after which the device counts as lost, how long it may stay away, and how long a device of another maker
        may take to its first sample; seconds of real time.
    """

    seconds: float
    driver: DriverChoice | None = None
    keys: tuple[DeviceKey, ...] = ()
    allow_unauthenticated: bool = False
    pace: float | None = None
    device: str = ""
    start: StartTime | None = None
    record_id: str = ""
    watchdog_s: float = WATCHDOG_S
    reconnect_for_s: float = RECONNECT_FOR_S
    first_sample_s: float = FIRST_SAMPLE_S

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise LengthError(
                f"recording: found {self.seconds} s, expected more than 0 s", advice="Ask for 10 to 30 seconds."
            )
        if self.pace is not None and not (math.isfinite(self.pace) and self.pace > 0):
            raise RateError(
                f"recording: found pace {self.pace}, expected more than 0", advice="A real device has pace 1."
            )


def n_samples_of(seconds: float, *, fs_hz: float) -> int:
    """Return the samples that cover `seconds`."""
    return math.ceil(seconds * fs_hz)


def at_most(record: EcgRecord, seconds: float) -> EcgRecord:
    """Return the first `seconds` of a record, or all of a shorter one."""
    limit = n_samples_of(seconds, fs_hz=record.fs_hz)
    return record if record.n_samples <= limit else record.slice(0, limit)
