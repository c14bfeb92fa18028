"""Random and mutated input to every driver: no crash, bounded memory, no sample from a frame whose check fails.

    python -m tests.evidence.driver_fuzz [INPUTS_PER_DRIVER] [--seed N]

Default: 1,000,000 inputs for each driver. Half of the inputs are mutations of what a device sends (bits, cuts, insertions, two
frames joined), half are random bytes; lengths are 0 to 300 bytes. One driver object takes 2,000 inputs on end, so what one input
leaves behind meets the next ones.

After each input that brought samples an oracle of its own (bitwise check sums, written for the tests) must find a reason in the
bytes: for the checked protocols a frame whose sum is right among the bytes fed so far, for the others a packet of the documented
form. Memory is the sum of what the driver holds; a recording that is full must stay so.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from firmware_bridge.drivers import Driver, catalogue, hativ, make, movesense, polar
from firmware_bridge.drivers.track import MAX_GAP_S, MAX_SAMPLES
from firmware_bridge.drivers.viatom_frames import NOTIFY_UUID
from firmware_bridge.protocol.codec import LiveFrame, encode_frame
from firmware_bridge.protocol.descriptor import DeviceDescriptor, encode_descriptor
from firmware_bridge.protocol.profile import CONTROL_UUID, DESCRIPTOR_UUID, LIVE_UUID
from tests.firmware_bridge.drivers import driver_bytes

INPUTS_PER_OBJECT = 2000
MAX_BYTES = 300
# Two leads of the longest recording at 11 bytes a sample, doubled while an array grows, and room for the rest.
MAX_HELD_BYTES = 64 << 20
_FRAME_BYTES = 10 + 25 * 6 + 2


@dataclass(frozen=True)
class Target:
    """A driver under fuzz: its channels, what a device sends (by number), and the oracle over the bytes since the last sample."""

    channels: tuple[str, ...]
    genuine: Callable[[int], bytes]
    justified: Callable[[bytes], bool]


@dataclass
class Outcome:
    """Counts of one run."""

    inputs: int = 0
    with_samples: int = 0
    samples: int = 0
    corrupt: int = 0
    malformed: int = 0
    held_bytes: int = 0


def _e6l_frame(k: int) -> bytes:
    samples = np.arange(50, dtype=np.int32).reshape(2, 25) * 1000 - k
    return encode_frame(LiveFrame(samples=samples, t0=25 * k, seq=k & 0xFFFF))


def _e6l_justified(data: bytes) -> bool:
    """One notification is one frame: its own check sum must hold."""
    return len(data) >= 12 and driver_bytes.crc16_bitwise(data[:-2]) == int.from_bytes(data[-2:], "little")


def _viatom_justified(data: bytes) -> bool:
    """Some frame inside, by header, length and bitwise check sum."""
    at = data.find(b"\xa5")
    while at >= 0:
        size = int.from_bytes(data[at + 5 : at + 7], "little") + 8
        frame = data[at : at + size]
        if (
            len(frame) == size >= 8
            and frame[1] ^ frame[2] == 0xFF
            and driver_bytes.crc8_bitwise(frame[:-1]) == frame[-1]
        ):
            return True
        at = data.find(b"\xa5", at + 1)
    return False


def _openview_justified(*payloads: int) -> Callable[[bytes], bool]:
    def justified(data: bytes) -> bool:
        for n in payloads:
            head = b"\x0a\xfa" + n.to_bytes(2, "little") + b"\x02"
            at = data.find(head)
            while at >= 0:
                if data[at + 5 + n : at + 7 + n] == b"\x00\x0b":
                    return True
                at = data.find(head, at + 1)
        return False

    return justified


def _rows(k: int, n_leads: int, n: int) -> list[list[int]]:
    return [[(k * 7 + lead * 100 + i * 3) % 2000 - 1000 for i in range(n)] for lead in range(n_leads)]


def targets() -> dict[str, Target]:
    """What each driver of the catalogue is fed."""
    step_ns = round(73 / 130 * 1e9)
    return {
        "e6l": Target((LIVE_UUID, CONTROL_UUID, DESCRIPTOR_UUID), _e6l_frame, _e6l_justified),
        "protocentral-ads1293": Target(("",), lambda k: driver_bytes.ads1293(_rows(k, 3, 4)), _openview_justified(12)),
        "protocentral-ads1292r": Target(
            ("",), lambda k: driver_bytes.ads1292r(_rows(k, 1, 4)[0], long=bool(k % 2)), _openview_justified(8, 20)
        ),
        "viatom": Target((NOTIFY_UUID,), lambda k: driver_bytes.viatom_rt(_rows(k, 1, 60)[0]), _viatom_justified),
        "viatom-er3": Target(
            (NOTIFY_UUID,), lambda k: driver_bytes.er3_packed(_rows(k, 4, 25), index=25 * k), _viatom_justified
        ),
        "hativ": Target(
            (hativ.ECG_UUID,), lambda k: driver_bytes.hativ(_rows(k, 2, 20)), lambda data: len(data) == 120
        ),
        "polar-h10": Target(
            (polar.DATA_UUID, polar.CONTROL_UUID),
            lambda k: driver_bytes.polar(_rows(k, 1, 73)[0], t_ns=10**15 + k * step_ns),
            lambda data: len(data) > 10 and (len(data) - 10) % 3 == 0 and data[0] == data[9] == 0,
        ),
        "movesense": Target(
            (movesense.NOTIFY_UUID,),
            lambda k: driver_bytes.movesense(_rows(k, 1, 16)[0], t_ms=k * 80),
            lambda data: len(data) == 70 and data[:2] == b"\x02\x63",
        ),
    }


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with bits changed, cut, grown, joined with others, or as they are."""
    raw, kind = bytearray(data), int(rng.integers(0, 7))
    if kind == 0:
        for _ in range(int(rng.integers(1, 4))):
            raw[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        raw = raw[: int(rng.integers(0, len(raw) + 1))]
    elif kind == 2:
        raw = raw[int(rng.integers(0, len(raw))) :]
    elif kind == 3:
        at = int(rng.integers(0, len(raw)))
        raw[at:at] = rng.bytes(int(rng.integers(1, 9)))
    elif kind == 4:
        raw += other
    elif kind == 5:
        raw[int(rng.integers(len(raw)))] = int(rng.choice([0x00, 0xFF, 0x80, 0x7F, 0x0A, 0xA5]))
    return bytes(raw[:MAX_BYTES])


def inputs(target: Target, n: int, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Channel and bytes, `n` times."""
    for k in range(n):
        channel = target.channels[0 if rng.random() < 0.9 else int(rng.integers(len(target.channels)))]
        if k % 2:
            yield channel, rng.bytes(int(rng.integers(0, MAX_BYTES + 1)))
        else:
            at = k // 2 % (INPUTS_PER_OBJECT // 2)  # in order, as a device sends, so that time and index go on
            yield channel, mutated(target.genuine(at), target.genuine(at + 1), rng)


def fresh(name: str) -> Driver:
    """A driver that has begun."""
    driver = make(name)
    if name == "e6l":
        descriptor = DeviceDescriptor(leads=("I", "II"), fs_mhz=500_000, lsb_pv=48_100, range_uv=400_000)
        driver.feed(DESCRIPTOR_UUID, encode_descriptor(descriptor), 0)
    driver.begin()
    return driver


def held_bytes(driver: object, depth: int = 8) -> int:
    """Bytes of arrays, byte strings and containers that an object holds."""
    if isinstance(driver, np.ndarray):
        return driver.nbytes
    if isinstance(driver, bytes | bytearray | str):
        return sys.getsizeof(driver)
    if depth == 0:
        return sys.getsizeof(driver)
    if isinstance(driver, list | tuple | set):
        return sum(held_bytes(item, depth - 1) for item in driver)
    slots = [getattr(driver, slot) for slot in getattr(type(driver), "__slots__", ()) if hasattr(driver, slot)]
    return sum(held_bytes(item, depth - 1) for item in (*getattr(driver, "__dict__", {}).values(), *slots))


def fuzz(name: str, n: int, *, seed: int) -> Outcome:
    """Run `n` inputs; AssertionError with the input at the first that breaks a rule."""
    target, rng, outcome = targets()[name], np.random.default_rng(seed), Outcome()
    streamed = name.startswith(("protocentral", "viatom"))
    driver, taken, before = fresh(name), b"", 0
    for k, (channel, data) in enumerate(inputs(target, n, rng)):
        if k and k % INPUTS_PER_OBJECT == 0:
            _account(driver, outcome)
            driver, taken, before = fresh(name), b"", 0
        packets, t_us = driver.statistics.packets, k * 10_000
        driver.feed(channel, data, t_us)
        driver.poll(t_us)
        # A stream's frame may have begun in earlier bytes; the longest one is 4104 bytes.
        taken = (taken + data)[-8192:] if streamed else data
        outcome.inputs += 1
        if driver.elapsed != before or driver.statistics.packets != packets:
            assert target.justified(taken), f"{name}, seed {seed}, input {k}: samples from {data.hex()}"
            outcome.with_samples += 1
            before = driver.elapsed
        assert driver.elapsed <= MAX_SAMPLES + MAX_GAP_S * 1000, (
            f"{name}, seed {seed}, input {k}: {driver.elapsed} samples"
        )
    _account(driver, outcome)
    return outcome


def _account(driver: Driver, outcome: Outcome) -> None:
    outcome.held_bytes = max(outcome.held_bytes, held_bytes(driver))
    assert outcome.held_bytes <= MAX_HELD_BYTES, f"{driver.info.name} holds {outcome.held_bytes} bytes"
    statistics = driver.statistics
    outcome.samples += driver.elapsed
    outcome.corrupt += statistics.corrupt
    outcome.malformed += statistics.malformed
    if 0 < driver.elapsed < 50_000:
        record = driver.to_record(start=None, device="fuzz")
        assert record.n_samples == driver.elapsed
        assert record.received_samples + sum(gap.n_samples for gap in record.gaps) == driver.elapsed


def main() -> None:
    """Print a line for each driver."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--driver", choices=tuple(catalogue))
    arguments = parser.parse_args()
    print("| driver | inputs | with samples | check failed | malformed | most memory held | s |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in [arguments.driver] if arguments.driver else catalogue:
        begun = time.perf_counter()
        found = fuzz(name, arguments.n, seed=arguments.seed)
        seconds = time.perf_counter() - begun
        print(
            f"| {name} | {found.inputs:,} | {found.with_samples:,} | {found.corrupt:,} | {found.malformed:,}"
            f" | {found.held_bytes / 1e6:.1f} MB | {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
