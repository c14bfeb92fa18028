"""A million damaged and hostile inputs through the serial line's reader, and as many through the notification log's.

    OMP_NUM_THREADS=1 python tests/evidence/serial_fuzz.py [INPUTS] [SEED]

`PacketReader` gets true packets with bytes changed, cut, joined, and random bytes; `parse_log` true lines with bytes
changed, and random bytes. Held against:

- no exception but the refusal of a first line;
- the packets are those that an oracle finds: COBS undone byte by byte, the CRC-16 of control packets bit by bit;
- after any input the next true packet is read;
- the reader keeps no more than one packet in memory;
- each line of a log is either an entry or named.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import time
from collections import Counter

from edge_app.link.log.file import FORMAT, parse_log
from firmware_bridge.protocol.cobs import DEFAULT_MAX_BYTES
from firmware_bridge.protocol.serial_packets import PacketReader, SerialChannel, SerialPacket, encode_packet

HEADER = json.dumps({"format": FORMAT, "driver": "e6l"}).encode() + b"\n"
MARK = SerialPacket(SerialChannel.STATUS, b"mark")
MARK_BYTES = b"\0" + encode_packet(MARK.channel, MARK.data)


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """The bytes with one to eight of them changed, some cut off, or others put in."""
    out = bytearray(raw)
    for _ in range(rng.randint(1, 8)):
        kind = rng.randrange(4)
        at = rng.randrange(len(out)) if out else 0
        if kind == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at : at + rng.randrange(20)]
        elif kind == 2:
            out[at:at] = rng.randbytes(rng.randrange(20))
        else:
            out[at:at] = b"\0" * rng.randrange(3)
    return bytes(out)


def packet_bytes(rng: random.Random) -> bytes:
    """Bytes as they may come off a wire."""
    kind = rng.randrange(10)
    if kind == 0:
        return rng.randbytes(rng.randrange(700))
    raw = encode_packet(SerialChannel(rng.randrange(5)), rng.randbytes(rng.choice((0, 2, 20, 40, 162, 244))))
    return raw if kind == 1 else damaged(raw, rng)


def oracle(data: bytes) -> list[SerialPacket]:
    """What a reader must find in `data`: byte by byte, with a check sum computed bit by bit."""
    found = []
    for piece in data.split(b"\0")[:-1]:
        raw = unstuffed(piece) if len(piece) <= DEFAULT_MAX_BYTES else None
        if not raw or raw[0] not in tuple(SerialChannel):
            continue
        channel, body = SerialChannel(raw[0]), raw[1:]
        if channel is SerialChannel.CONTROL:
            if len(raw) < 3 or crc(raw[:-2]) != raw[-2] + 256 * raw[-1]:
                continue
            body = raw[1:-2]
        found.append(SerialPacket(channel, body))
    return found


def unstuffed(piece: bytes) -> bytes | None:
    """COBS undone one byte at a time; None for bytes that no encoder makes."""
    out, left, code = bytearray(), 0, 0
    for byte in piece:
        if left:
            out.append(byte)
            left -= 1
            continue
        if code and code != 255:
            out.append(0)
        code, left = byte, byte - 1
    return None if left else bytes(out)


def crc(data: bytes) -> int:
    """CRC-16/CCITT-FALSE from its definition."""
    value = 0xFFFF
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x1021 if value & 0x8000 else value << 1) & 0xFFFF
    return value


def check_packets(reader: PacketReader, rng: random.Random, counts: Counter[str]) -> None:
    """One input to the reader, cut in two, with a true packet after it."""
    sent = packet_bytes(rng) + MARK_BYTES
    cut = rng.randrange(len(sent))
    found = [*reader.feed(sent[:cut]), *reader.feed(sent[cut:])]
    expected = oracle(sent)
    counts["packets accepted"] += len(found)
    counts["control accepted"] += sum(packet.channel is SerialChannel.CONTROL for packet in found)
    if found != expected or found[-1] != MARK:
        counts["VIOLATION: not what the oracle finds"] += 1
    if len(reader._cobs._buffer) > DEFAULT_MAX_BYTES + 1:
        counts["VIOLATION: memory"] += 1


def check_log(rng: random.Random, counts: Counter[str]) -> None:
    """One input to the log's parser."""
    lines = [
        json.dumps({"t_us": i * 1000, "channel": "live", "hex": rng.randbytes(rng.randrange(30)).hex()}).encode()
        for i in range(3)
    ]
    body = damaged(b"\n".join(lines), rng) if rng.randrange(10) else rng.randbytes(rng.randrange(200))
    log = parse_log(HEADER + body)
    n_lines = body.count(b"\n") + (bool(body) and not body.endswith(b"\n"))
    counts["log lines read"] += len(log.entries)
    counts["log lines named"] += len(log.damaged)
    if len(log.entries) + len(log.damaged) != n_lines:
        counts["VIOLATION: lines"] += 1


def run(inputs: int, seed: int) -> Counter[str]:
    """Counts of a run; a key that begins with VIOLATION must not exist."""
    rng, counts, reader = random.Random(seed), Counter[str](), PacketReader()
    for _ in range(inputs):
        check_packets(reader, rng, counts)
        check_log(rng, counts)
    counts["packets rejected"] = reader.rejected
    return counts


def main(argv: list[str]) -> int:
    """Run and report; 1 where something happened that must not."""
    inputs, seed = (int(text) for text in (*argv, *("1000000", "1")[len(argv) :]))
    logging.disable(logging.WARNING)
    start_s = time.perf_counter()
    counts = run(inputs, seed)
    print(
        json.dumps({"inputs each": inputs, "seed": seed, "seconds": round(time.perf_counter() - start_s, 1), **counts})
    )
    return int(any(key.startswith("VIOLATION") for key in counts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
