"""The bridge alone: a notification log (``e6l-log/1``) becomes a record. ``python -m firmware_bridge.example LOG.jsonl``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from firmware_bridge import Recording, decode_descriptor
from lsemvae.ecg.record import EcgRecord


def record_of_log(lines: Iterable[str]) -> EcgRecord:
    """Return the record in a log of one recording; a device that was switched off and on begins a second stream."""
    recording, boot_id = Recording(), None
    for line in lines:
        entry = json.loads(line)
        channel, data = entry.get("channel"), bytes.fromhex(entry.get("hex", ""))
        if channel == "descriptor":
            descriptor = decode_descriptor(data)
            if descriptor.boot_id != boot_id:
                recording.begin(descriptor, at=recording.elapsed)
            boot_id = descriptor.boot_id
        elif channel == "live":
            recording.feed_bytes(data)  # damaged frames are counted, not used
    return recording.to_record()


if __name__ == "__main__":
    record = record_of_log(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines())
    missing = sum(gap.stop - gap.start for gap in record.gaps)
    sys.stdout.write(
        f"{'+'.join(record.leads)}: {record.n_samples} samples at {record.fs_hz:g} Hz, {missing} missing\n"
    )
