"""Damaged and random bytes to every decoder, in C and in Python: no crash, and nothing accepted with a wrong check sum.

    python tests/evidence/core_fuzz.py [--inputs 1000000] [--walks 1000] [--seed 1] [--out FILE]

C: `firmware_bridge/c/fuzz/fuzz.c`, built with the address and undefined-behaviour sanitizers, which end it at the first bad
access; its check sum is computed a second time bit by bit. Python: any exception but a `ProtocolError` ends the run; what is
accepted must have the check sum of an independent computation and encode to the same bytes. Requests and replies carry no
check sum: for them, no other exception, and the same bytes again. Then random walks of both devices, in C and in Python, that
must send the same bytes (`tests/firmware_bridge/sim/test_core_equality.py`). Writes one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firmware_bridge.protocol import authenticity, bulk, codec, control, descriptor, status
from firmware_bridge.protocol.profile import Contact, DeviceState, FrameFlag, Op, ReplyStatus, SampleCodec
from firmware_bridge.sim.device.core_build import CORE_FOLDER
from lsemvae.ecg.errors import ProtocolError

RIGHT_SUM_SHARE = 1 / 3  # inputs whose check sum is made right: only what lies behind it can refuse them


@dataclass(frozen=True, slots=True)
class Target:
    """A decoder: valid inputs to damage, how to decode, and how to encode what came out (None: nothing to compare)."""

    valid: tuple[bytes, ...]
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes] | None
    has_sum: bool


def slow_crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE bit by bit from its definition; shares nothing with the code under test."""
    crc = 0xFFFF
    for byte in data:
        for bit in range(7, -1, -1):
            top = crc >> 15 ^ (byte >> bit & 1)
            crc = (crc << 1 & 0xFFFF) ^ (0x1021 if top else 0)
    return crc


def _frames() -> tuple[bytes, ...]:
    rng = np.random.default_rng(0)
    kinds = ((SampleCodec.RAW24, 1 << 23), (SampleCodec.RAW16, 1 << 15))
    return tuple(
        codec.encode_frame(
            codec.LiveFrame(
                samples=rng.integers(-limit, limit, (2, n)).astype(np.int32), t0=n * 1000, flags=FrameFlag(n & 0x0F),
                contact=Contact(n & 0x3F), codec=kind,
            )
        )
        for kind, limit in kinds
        for n in (1, 4, 25)
    )  # fmt: skip


def _read_reply(raw: bytes) -> control.Reply:
    """A reply with its data decoded, as a host does it."""
    reply = control.decode_reply(raw)
    decode: dict[Op, Callable[[bytes], Any]] = {
        Op.START: control.decode_start_reply, Op.STOP: control.decode_stop_reply, Op.TIME: control.decode_time_reply,
        Op.RECORD_ARM: bulk.decode_record_id, Op.RECORD_LIST: bulk.decode_record_list_reply,
        Op.SELF_TEST: control.decode_self_test_reply, Op.AUTHENTICATE: authenticity.decode_authenticate_reply,
    }  # fmt: skip
    if reply.status is ReplyStatus.OK and reply.op in decode:
        decode[reply.op](reply.data)
    return reply


def _read_request(raw: bytes) -> control.Request:
    """A request with its parameters decoded, as a device does it."""
    request = control.decode_request(raw)
    decode: dict[Op, Callable[[bytes], Any]] = {
        Op.START: control.decode_start, Op.RETRANSMIT: control.decode_retransmit, Op.TIME: control.decode_time,
        Op.CALIBRATE: control.decode_calibrate, Op.RECORD_ARM: bulk.decode_record_arm,
        Op.RECORD_LIST: bulk.decode_record_list, Op.RECORD_READ: bulk.decode_record_read,
        Op.RECORD_DELETE: bulk.decode_record_id, Op.AUTHENTICATE: authenticity.decode_authenticate,
    }  # fmt: skip
    if request.op in decode:
        decode[request.op](request.params)
    return request


def targets() -> dict[str, Target]:
    """The decoders in Python."""
    described = descriptor.DeviceDescriptor(leads=("I", "II"), fs_mhz=500_000, lsb_pv=48_100, range_uv=403_000)
    told = status.DeviceStatus(state=DeviceState.STREAMING, next_index=5_000, temperature_centi_c=-250)
    requests = tuple(bytes((op, 7)) + params for op, params in (
        (1, b"\0\x19\0"), (2, b""), (3, bytes(4) + b"\x32\0"), (4, bytes(8)), (5, b"\1\5"), (6, b"\x0a"), (7, b"\0"),
        (8, b"\1\0" + bytes(4) + b"\x10\0\0\0"), (9, b"\1\0"), (10, b""), (11, bytes(16)),
    ))  # fmt: skip
    lengths = ((1, 17), (2, 12), (4, 20), (6, 2), (7, 23), (10, 4), (11, 32))
    replies = tuple(bytes((0x80 | op, 7, 0)) + b"\1" * n for op, n in lengths)
    chunks = tuple(bulk.encode_bulk(bulk.BulkFrame(offset=n, data=bytes(n))) for n in (1, 12, 236))
    return {
        "frame": Target(_frames(), codec.decode_frame, codec.encode_frame, has_sum=True),
        "descriptor": Target(
            (descriptor.encode_descriptor(described),), descriptor.decode_descriptor, descriptor.encode_descriptor,
            has_sum=True,
        ),
        "status": Target((status.encode_status(told),), status.decode_status, status.encode_status, has_sum=True),
        "bulk": Target(chunks, bulk.decode_bulk, bulk.encode_bulk, has_sum=True),
        "request": Target(requests, _read_request, control.Request.to_bytes, has_sum=False),
        "reply": Target(replies, _read_reply, control.Reply.to_bytes, has_sum=False),
    }  # fmt: skip


def damaged(raw: bytes, rng: random.Random, *, has_sum: bool) -> bytes:
    """`raw` as links and firmware damage it: a bit, a byte, cut short, too long, noise, or not at all."""
    data = bytearray(raw)
    kind = rng.randrange(6)
    if kind == 0:
        data = bytearray(rng.randbytes(rng.randrange(300)))
    elif kind == 1:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        data = data[: rng.randrange(len(data))]
    elif kind == 3:
        data += rng.randbytes(rng.randrange(1, 9))
    elif kind == 4:
        data[rng.randrange(len(data))] = rng.randrange(256)
    if has_sum and len(data) >= 2 and rng.random() < RIGHT_SUM_SHARE:
        data[-2:] = slow_crc16(data[:-2]).to_bytes(2, "little")
    return bytes(data)


def fuzz_python(name: str, target: Target, *, inputs: int, seed: int) -> dict[str, int]:
    """Counts of what one decoder did with `inputs` inputs."""
    rng = random.Random(f"{name} {seed}")
    accepted = wrong = 0
    for _ in range(inputs):
        raw = damaged(rng.choice(target.valid), rng, has_sum=target.has_sum)
        try:
            found = target.decode(raw)
        except ProtocolError:
            continue
        accepted += 1
        sum_is_right = not target.has_sum or slow_crc16(raw[:-2]) == int.from_bytes(raw[-2:], "little")
        wrong += not sum_is_right or (target.encode is not None and target.encode(found) != raw)
    return {"inputs": inputs, "accepted": accepted, "wrong": wrong}


def fuzz_c(*, inputs: int, seed: int, build: Path) -> dict[str, Any]:
    """What the fuzz program in C says; a crash or a wrong acceptance is a `CalledProcessError`."""
    command = ["make", "-s", "-C", str(CORE_FOLDER), "fuzz", f"N={inputs}", f"SEED={seed}", f"BUILD={build}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"LC_ALL": "C"})
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def walk_both_devices(*, walks: int) -> int:
    """Random walks after which the device in C and the one in Python were equal; a difference is an AssertionError."""
    from hypothesis import settings
    from hypothesis.stateful import run_state_machine_as_test

    path = Path(__file__).resolve().parents[1] / "bridge" / "test_core_equality.py"
    spec = importlib.util.spec_from_file_location("core_equality", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    options = settings(max_examples=walks, stateful_step_count=60, deadline=None, database=None)
    run_state_machine_as_test(module.BothDevices, settings=options)
    return walks


def main() -> int:
    """Run both and write the counts; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--walks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as build:
        in_c = fuzz_c(inputs=options.inputs, seed=options.seed, build=Path(build))
    in_python = {
        name: fuzz_python(name, target, inputs=options.inputs, seed=options.seed) for name, target in targets().items()
    }
    walks = walk_both_devices(walks=options.walks) if options.walks else 0
    wrong = in_c["wrong"] + sum(item["wrong"] for item in in_python.values())
    report = {
        "seed": options.seed,
        "c": in_c,
        "python": in_python,
        "equal_walks": walks,
        "wrong": wrong,
        "seconds": round(time.monotonic() - start),
    }
    text = json.dumps(report, indent=1) + "\n"
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
