"""Nothing received is lost: the spool survives crashes, torn tails, damaged bytes and full disks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from edge_app.link.inprocess import InProcessTransport
from edge_app.session import EventKind, SessionResult, record_session
from edge_app.session.spool import MAGIC, EntryKind, Spool, read_entries, recover_spool
from firmware_bridge.sim.air.faults import Faults
from lsemvae.ecg.errors import FormatError, LengthError, StoreError
from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.runs import StartTime
from lsemvae.ecg.source import SourceInfo

START = StartTime("2026-01-01T00:00:00Z", "host")
NOISE = Faults(drop=0.05, corrupt=0.03, swap=0.03, duplicate=0.02)


def record_into(path: Path, transport: InProcessTransport, *, seconds: float = 5.0) -> SessionResult:
    with Spool(path) as spool:
        session = record_session(
            transport, seconds=seconds, sink=spool, start=START, record_id="r1", allow_unauthenticated=True
        )
        return asyncio.run(session)


def assert_same(found: EcgRecord, expected: EcgRecord) -> None:
    np.testing.assert_array_equal(found.samples, expected.samples)
    names = (
        "lsb_uv", "fs_hz", "leads", "offset_uv", "gaps", "lead_off", "saturated", "start", "record_id", "device", "source",
    )  # fmt: skip
    for name in names:
        assert getattr(found, name) == getattr(expected, name), name


def test_a_spool_gives_the_same_record_as_the_session(tmp_path, source):
    path = tmp_path / "a.spool"
    result = record_into(path, InProcessTransport(source, speed=20, faults=NOISE))
    recovered = recover_spool(path)
    assert recovered.complete
    assert recovered.skipped_bytes == 0
    assert recovered.statistics == result.statistics.assembly
    assert_same(recovered.record, result.record)


@pytest.mark.slow
@pytest.mark.promise(44)
def test_a_process_that_is_killed_loses_nothing_that_it_received(tmp_path):
    """The child is killed by the kernel in the middle of a stream; it had printed how far it was."""
    path = tmp_path / "killed.spool"
    script = f"""
        import asyncio, os, signal, sys
        import numpy as np
        from pathlib import Path
        from edge_app.link.inprocess import InProcessTransport
        from edge_app.session import record_session
        from edge_app.session.spool import Spool
        from firmware_bridge.sim.device.source import source_from_uv

        x = np.stack([np.arange(7000.0) % 400, np.arange(7000.0) % 300])

        def on_frame(frame, descriptor):
            if frame.t0 >= 2000:
                sys.stdout.write(str(frame.t0 + frame.n_samples)); sys.stdout.flush()
                os.kill(os.getpid(), signal.SIGKILL)

        transport = InProcessTransport(source_from_uv(x, fs_hz=500.0), speed=20)
        spool = Spool(Path({str(path)!r}))
        session = record_session(transport, seconds=10, sink=spool, on_frame=on_frame, allow_unauthenticated=True)
        asyncio.run(session)
    """
    child = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    recovered = recover_spool(path)
    assert not recovered.complete
    assert recovered.record.n_samples == int(child.stdout)
    assert recovered.record.gaps == ()
    counts = recovered.record.samples * recovered.record.lsb_uv
    steps = np.diff(counts[0])
    assert np.isclose(steps[np.abs(steps) < 10], 1.0, atol=2 * recovered.record.lsb_uv).all()


@pytest.fixture
def spooled(tmp_path, source) -> tuple[bytes, EcgRecord]:
    path = tmp_path / "whole.spool"
    result = record_into(path, InProcessTransport(source, speed=20), seconds=1.0)
    return path.read_bytes(), result.record


def recover_bytes(tmp_path: Path, data: bytes):
    path = tmp_path / "damaged.spool"
    path.write_bytes(data)
    return recover_spool(path)


@pytest.mark.promise(44)
def test_a_torn_tail_costs_only_the_torn_entry(tmp_path, spooled):
    data, record = spooled
    lengths = set()
    for cut in range(len(data) - 1, len(data) - 600, -7):
        recovered = recover_bytes(tmp_path, data[:cut])
        n = recovered.record.n_samples
        lengths.add(n)
        np.testing.assert_array_equal(recovered.record.to_mv()[:, :n].shape, (2, n))
        assert record.n_samples - n <= 100
    assert len(lengths) > 1


@pytest.mark.promise(44)
def test_a_damaged_byte_costs_only_its_entry(tmp_path, spooled):
    data, record = spooled
    rng = np.random.default_rng(0)
    entries = [entry for entry in read_entries(data) if not isinstance(entry, int)]
    head = data.index(next(entry for entry in entries if entry.kind is EntryKind.LIVE).payload)
    for position in rng.integers(head, len(data) - 200, 40):
        changed = bytearray(data)
        changed[position] ^= 0x10
        recovered = recover_bytes(tmp_path, bytes(changed))
        missing = sum(gap.n_samples for gap in recovered.record.gaps)
        assert recovered.skipped_bytes > 0
        assert missing <= 25
        assert recovered.record.n_samples == record.n_samples


def test_noise_between_entries_is_skipped_and_counted(tmp_path, spooled):
    data, record = spooled
    noisy = data[: len(MAGIC)] + b"\x5a\xe6 garbage " * 20 + data[len(MAGIC) :]
    recovered = recover_bytes(tmp_path, noisy)
    assert recovered.skipped_bytes == 220
    assert_same(recovered.record, record)


def test_a_device_restarted_in_the_middle_is_recovered_with_its_gap(tmp_path, source):
    class BackAtOnce(InProcessTransport):
        async def connect(self):
            if not self.player.device.powered:
                await asyncio.sleep(0.1)
                self.player.power_on()
            return await super().connect()

    path = tmp_path / "restart.spool"
    result = record_into(path, BackAtOnce(source, speed=20, faults=Faults(power_off_at=60)), seconds=10)
    assert result.statistics.restarts == 1
    assert result.record.gaps
    assert_same(recover_spool(path).record, result.record)


def test_an_existing_file_is_never_overwritten(tmp_path):
    path = tmp_path / "old.spool"
    path.write_bytes(b"precious")
    with pytest.raises(StoreError, match="File exists"):
        Spool(path)
    assert path.read_bytes() == b"precious"


def test_a_folder_that_does_not_exist_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="No such file"):
        Spool(tmp_path / "nowhere" / "a.spool")


def test_what_is_no_spool_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"found .*expected"):
        recover_bytes(tmp_path, b"PK\x03\x04")
    with pytest.raises(StoreError, match="No such file"):
        recover_spool(tmp_path / "missing.spool")


def test_a_spool_without_samples_says_so(tmp_path):
    with Spool(tmp_path / "empty.spool"):
        pass
    with pytest.raises(LengthError, match="no stream"):
        recover_spool(tmp_path / "empty.spool")


class FullDisk:
    """A sink that takes some entries, then none."""

    def __init__(self, *, room: int, fails_on_sync: bool = False) -> None:
        self.room = room
        self._fails_on_sync = fails_on_sync

    def append(self, kind, payload, *, t_us):
        self.room -= 1
        if self.room < 0:
            raise StoreError("spool: found no space left on device, expected some")

    def sync(self):
        if self._fails_on_sync:
            raise StoreError("spool: found an input/output error, expected a healthy disk")


@pytest.mark.promise(51)
@pytest.mark.parametrize("sink", [FullDisk(room=50), FullDisk(room=10_000, fails_on_sync=True)], ids=["full", "broken"])
def test_a_failing_sink_is_told_and_the_recording_goes_on(source, equals_source, sink):
    transport = InProcessTransport(source, speed=5)
    result = asyncio.run(record_session(transport, seconds=7, sink=sink, allow_unauthenticated=True))
    assert [event.kind for event in result.events].count(EventKind.SPOOL_FAILED) == 1
    assert result.complete
    equals_source(result.record)


def test_a_spool_cut_off_in_its_first_bytes_holds_no_sample(tmp_path):
    for length in range(len(MAGIC)):
        path = tmp_path / f"{length}.spool"
        path.write_bytes(MAGIC[:length])
        with pytest.raises(LengthError, match=f"found {length} bytes"):
            recover_spool(path)


def test_an_entry_without_its_fields_is_a_format_error(tmp_path):
    with Spool(tmp_path / "odd.spool") as spool:
        spool.append(EntryKind.END, b"{}", t_us=0)
    with pytest.raises(FormatError, match="the fields of END"):
        recover_spool(tmp_path / "odd.spool")


def test_a_spool_that_cannot_be_begun_leaves_neither_file_nor_descriptor(tmp_path, monkeypatch):
    before = len(list(Path("/proc/self/fd").iterdir()))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StoreError, match="No space left"):
            Spool(tmp_path / "x.spool")
    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_disk_that_refuses_to_sync_does_not_keep_the_file_open(tmp_path, monkeypatch):
    spool = Spool(tmp_path / "x.spool")

    def broken(_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(StoreError, match="Input/output error"):
            spool.close()
    spool.close()  # harmless: it is closed
    assert all(link.readlink().name != "x.spool" for link in open_files())


def open_files():
    return [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink() and link.exists()]


def test_a_spool_of_an_older_program_is_recovered_and_nobody_asked_who_the_device_was(tmp_path, source):
    """Its SESSION has no source, its STREAM no codec, time or pace."""
    result = record_into(tmp_path / "new.spool", InProcessTransport(source, speed=20), seconds=1.0)
    keep = {EntryKind.SESSION: ("record_id", "device", "start"), EntryKind.STREAM: ("at",)}
    with Spool(tmp_path / "old.spool") as old:
        for entry in read_entries((tmp_path / "new.spool").read_bytes()):
            payload = entry.payload
            if entry.kind in keep:
                values = json.loads(payload)
                payload = json.dumps({name: values[name] for name in keep[entry.kind]}).encode()
            old.append(entry.kind, payload, t_us=entry.t_us)
    recovered = recover_spool(tmp_path / "old.spool")
    np.testing.assert_array_equal(recovered.record.samples, result.record.samples)
    assert recovered.record.source == SourceInfo(driver="e6l", authenticated=None)
    assert result.record.source == SourceInfo(driver="e6l", authenticated=False)
