"""The machines that a benchmark can be about."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from export.benchmark.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A board, as its maker and the kernel describe it.

    Attributes
    ----------
    qemu_cpu
        QEMU's name of the core.
    midr_part, midr_variant, midr_revision
        What `/proc/cpuinfo` says of the core; libraries choose their kernels by it.
    features
        The flags of `/proc/cpuinfo`. Raspberry Pi 4 (BCM2711) has no AES, SHA or PMULL, unlike QEMU's cortex-a72.
    model_prefix
        How `/proc/device-tree/model` begins on such a board.
    """

    name: str
    title: str
    qemu_cpu: str
    cores: int
    clock_hz: float
    midr_part: str
    midr_variant: str
    midr_revision: str
    features: str
    memory_mib: int
    model_prefix: str


HOST: Final = "host"
_BOARDS: Final = (
    Device(
        name="pi4", title="Raspberry Pi 4 (BCM2711, 4x Cortex-A72, 1.5 GHz)", qemu_cpu="cortex-a72", cores=4, clock_hz=1.5e9,
        midr_part="0xd08", midr_variant="0x0", midr_revision="3", features="fp asimd evtstrm crc32 cpuid",
        memory_mib=2048, model_prefix="Raspberry Pi 4",
    ),
    Device(
        name="pi5", title="Raspberry Pi 5 (BCM2712, 4x Cortex-A76, 2.4 GHz)", qemu_cpu="cortex-a76", cores=4, clock_hz=2.4e9,
        midr_part="0xd0b", midr_variant="0x4", midr_revision="1",
        features="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
        memory_mib=4096, model_prefix="Raspberry Pi 5",
    ),
    Device(
        name="zero2w", title="Raspberry Pi Zero 2 W (RP3A0, 4x Cortex-A53, 1.0 GHz)", qemu_cpu="cortex-a53", cores=4,
        clock_hz=1.0e9, midr_part="0xd03", midr_variant="0x0", midr_revision="4", features="fp asimd evtstrm crc32 cpuid",
        memory_mib=512, model_prefix="Raspberry Pi Zero 2",
    ),
)  # fmt: skip
BOARDS: Final[Mapping[str, Device]] = MappingProxyType({board.name: board for board in _BOARDS})
DEVICES: Final = (HOST, *BOARDS)


def board(name: str) -> Device:
    """Return a board by its name."""
    if name not in BOARDS:
        raise BenchmarkError(f"found the device {name!r}, expected one of {', '.join(DEVICES)}")
    return BOARDS[name]
