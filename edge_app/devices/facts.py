"""What a six-lead device says about itself, whether it holds a key that is trusted here, and whether it measures right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edge_app.devices.calibration_check import check_calibration
from edge_app.link.client import DeviceClient
from edge_app.session.auth import DeviceNotAuthenticatedError, authenticate
from firmware_bridge.protocol.control import decode_self_test_reply
from firmware_bridge.protocol.profile import Feature, Op, SelfTestFault

if TYPE_CHECKING:
    from edge_app.link.base import LinkInfo, Transport
    from firmware_bridge.protocol.authenticity import DeviceKey
    from firmware_bridge.protocol.descriptor import DeviceDescriptor
    from firmware_bridge.protocol.status import DeviceStatus

_FEATURES: Final = {
    Feature.RETRANSMIT: "send again",
    Feature.RECORD: "keep a recording",
    Feature.CALIBRATION: "calibration pulse",
    Feature.LEAD_OFF: "lead-off detection",
    Feature.RIGHT_LEG_DRIVE: "driven right leg",
    Feature.DC_COUPLED: "DC coupled",
    Feature.TIME_SYNC: "time exchange",
    Feature.DEVICE_KEY: "prove a key",
}

_FAULTS: Final = {
    SelfTestFault.FRONT_END: "the front-end does not answer",
    SelfTestFault.MEMORY: "memory",
    SelfTestFault.BATTERY_LOW: "battery low",
    SelfTestFault.CALIBRATION: "calibration pulse out of range",
    SelfTestFault.NO_DEVICE_KEY: "no device key",
}


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A device, described."""

    link: LinkInfo
    descriptor: DeviceDescriptor
    status: DeviceStatus
    trusted: str
    self_test: str | None = None
    calibration: str | None = None
    gain_errors: tuple[float, ...] | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """What it can, in words."""
        return tuple(text for feature, text in _FEATURES.items() if self.descriptor.features & feature)

    @property
    def filters(self) -> str:
        """Corner frequencies of its own filters."""
        high_pass = f"{self.descriptor.hpf_mhz / 1000:g} Hz" if self.descriptor.hpf_mhz else "none"
        low_pass = f"{self.descriptor.lpf_dhz / 10:g} Hz" if self.descriptor.lpf_dhz else "none"
        return f"high-pass {high_pass}, low-pass {low_pass}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "name": self.link.name, "address": self.link.address, "link": self.link.kind, "mtu": self.link.mtu,
            "leads": list(self.descriptor.leads), "fs_hz": self.descriptor.fs_hz, "lsb_uv": self.descriptor.lsb_uv,
            "range_uv": self.descriptor.range_uv, "adc_bits": self.descriptor.adc_bits,
            "features": list(self.features), "ring_s": self.descriptor.ring_s,
            "hpf_hz": self.descriptor.hpf_mhz / 1000, "lpf_hz": self.descriptor.lpf_dhz / 10,
            "state": self.status.state.name.lower(), "battery_percent": self.status.battery_percent,
            "battery_mv": self.status.battery_mv, "trusted": self.trusted, "self_test": self.self_test,
            "calibration": self.calibration, "gain_errors": None if self.gain_errors is None else list(self.gain_errors),
        }  # fmt: skip


async def ask_device(
    transport: Transport, *, keys: Sequence[DeviceKey] = (), self_test: bool = False, calibrate: bool = False
) -> DeviceFacts:
    """Connect to a device, ask it about itself, disconnect.

    Raises
    ------
    LinkError, ProtocolError
        The device is not there, or what it says makes no sense.
    """
    client = DeviceClient(transport, on_bytes=lambda _source, _data: None, on_lost=lambda _reason: None)
    try:
        opened = await client.open()
        try:
            key = await authenticate(client, opened, keys)
            trusted = f"yes: {key.name} (key {key.fingerprint})"
        except DeviceNotAuthenticatedError as error:
            trusted = f"no: {error}"
        tested = None
        if self_test:
            reply = decode_self_test_reply((await client.command(Op.SELF_TEST)).data)
            known = [text for fault, text in _FAULTS.items() if reply.faults & fault]
            unknown = int(reply.faults) & ~sum(_FAULTS)
            faults = [*known, *([f"unknown faults 0x{unknown:04X}"] if unknown else [])]
            tested = f"{'; '.join(faults) or 'passed'} ({reply.battery_mv} mV)"
    finally:
        await client.close()
    # A pulse is no ECG: it may be measured on a device that is not trusted.
    calibration, gain_errors = None, None
    if calibrate:
        result = await check_calibration(transport, keys=keys, allow_unauthenticated=True)
        gain_errors = tuple(result.gain_error)
        errors = ", ".join(
            f"{lead} {round(100 * error, 1) + 0.0:+.1f} %"
            for lead, error in zip(opened.descriptor.leads, gain_errors, strict=True)
        )
        calibration = f"{'within' if result.ok else 'OUTSIDE'} tolerance: {errors}"
    return DeviceFacts(
        link=opened.info, descriptor=opened.descriptor, status=opened.status, trusted=trusted, self_test=tested,
        calibration=calibration, gain_errors=gain_errors,
    )  # fmt: skip
