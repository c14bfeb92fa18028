"""What the application does over a real bluetoothd: run inside the emulated machine by tests/radio/test_level3.py, writes facts as JSON.

Nothing is judged here: each scenario tells what happened, and the test outside says what should have. Times are those of
an emulated processor and prove nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bleak import BleakClient, BleakScanner

from edge_app.link.ble.transport import BleTransport
from edge_app.session import record_session
from firmware_bridge.protocol.authenticity import DeviceKey
from firmware_bridge.protocol.control import Request, StartParams
from firmware_bridge.protocol.profile import CONTROL_UUID, LIVE_UUID, SERVICE_UUID, Op, StartFlag
from lsemvae.ecg.errors import EcgError
from tests.radio.level3.guest import LOCKED_KEY, Air, adapter, adapter_appears, bonds, forget_device, pids
from tests.radio.level3.machine import NO_ADAPTER_STATUS

OUT = Path("/level3")
SCAN_S = 20.0
OTHER_KEY = DeviceKey(name=LOCKED_KEY.name, secret=bytes(32))
START = Request(op=Op.START, txn=1, params=StartParams().to_bytes()).to_bytes()
RESUME = Request(op=Op.START, txn=2, params=StartParams(flags=StartFlag.RESUME).to_bytes()).to_bytes()
STOP = Request(op=Op.STOP, txn=3).to_bytes()
BAD_RADIO = {"drop": 0.05, "corrupt": 0.03, "swap": 0.03, "duplicate": 0.02}
CRASHES = f"""
import asyncio, os, signal
from edge_app.link.ble.transport import BleTransport

async def connect_and_die():
    await BleTransport(scan_s={SCAN_S}).connect()
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(connect_and_die())
"""
REFUSED = """
import asyncio, json
from edge_app.link.ble.transport import BleTransport
from lsemvae.ecg.errors import EcgError

try:
    asyncio.run(BleTransport(scan_s=3).connect())
except EcgError as exc:
    print(json.dumps(exc.to_dict()))
"""


async def recorded(air: Air, seconds: float, **options: Any) -> dict[str, Any]:
    """One session as the application runs it, in figures; without `keys` the device need not prove what it is."""
    transport = BleTransport(scan_s=options.pop("scan_s", SCAN_S), pair=options.pop("pair", True))
    options.setdefault("allow_unauthenticated", "keys" not in options)
    result = await record_session(transport, seconds=seconds, **options)
    found = result.statistics
    return {
        "complete": result.complete,
        "samples": found.elapsed_samples,
        "received": found.received_samples,
        "lost": found.missing_samples,
        "missing_before_repair": found.missing_before_repair,
        "gaps": [(gap.start, gap.stop) for gap in result.record.gaps],
        "differing": air.differing(result.record, restarted=found.restarts > 0),
        "frames": found.assembly.frames,
        "corrupt": found.assembly.corrupt,
        "duplicates": found.assembly.duplicates,
        "reconnects": found.reconnects,
        "restarts": found.restarts,
        "authenticated": result.record.source.authenticated,
        "events": [event.kind.value for event in result.events],
        "messages": [f"{event.t_s:.1f} s {event.message}" for event in result.events],
        "injected": air.tell("report")["faults"],
    }


async def refused(air: Air, **options: Any) -> dict[str, Any]:
    """A session that must not begin: what the operator is told."""
    try:
        return await recorded(air, 2, scan_s=options.pop("scan_s", 3.0), **options)
    except EcgError as exc:
        return exc.to_dict()


async def ten_seconds(air: Air) -> dict[str, Any]:
    transport = BleTransport(scan_s=SCAN_S)
    info = await transport.connect()
    await transport.disconnect()
    return {**await recorded(air, 10), "mtu": info.mtu, "name": info.name}


async def bad_radio(air: Air) -> dict[str, Any]:
    air.faults(**BAD_RADIO)
    return await recorded(air, 10)


async def link_lost(air: Air) -> dict[str, Any]:
    air.faults(disconnect_at=60)
    return await recorded(air, 10)


async def power_lost(air: Air) -> dict[str, Any]:
    air.faults(power_off_at=60)
    asyncio.get_running_loop().call_later(12, air.tell, "power_on")
    return await recorded(air, 25, reconnect_for_s=60.0)


async def crashed_application(air: Air) -> dict[str, Any]:
    child = await asyncio.create_subprocess_exec(sys.executable, "-B", "-c", CRASHES)
    status = await child.wait()
    return {**await recorded(air, 2, scan_s=6.0), "crashed_with": status}


async def bluetoothd_killed(air: Air) -> dict[str, Any]:
    """The service dies in the middle and comes back as under systemd; so does the adapter's power, as AutoEnable does."""
    victims = pids("bluetoothd")
    tasks = []

    def watch(progress: Any) -> None:
        if progress.elapsed_s >= 2 and not tasks:
            for pid in victims:
                os.kill(pid, signal.SIGSEGV)
            tasks.append(asyncio.ensure_future(adapter_appears()))

    found = await recorded(air, 8, on_progress=watch, reconnect_for_s=60.0)
    return {**found, "killed": len(victims)}


async def leak(air: Air, *, close_first: bool) -> dict[str, Any]:
    """Stream, lose the link, connect a second client; its live notifications: all, and different ones."""
    air.faults(disconnect_at=20)
    lost, frames = asyncio.Event(), []
    first = BleakClient(await _found(), disconnected_callback=lambda _client: lost.set(), timeout=30)
    await first.connect()
    await first.start_notify(LIVE_UUID, lambda *_: None, bluez={"use_start_notify": True})
    await first.write_gatt_char(CONTROL_UUID, START, response=True)
    await asyncio.wait_for(lost.wait(), 30)
    if close_first:
        await first.disconnect()
    async with BleakClient(await _found(), timeout=30) as second:
        await second.start_notify(
            LIVE_UUID, lambda _c, data: frames.append(bytes(data)), bluez={"use_start_notify": True}
        )
        await second.write_gatt_char(CONTROL_UUID, RESUME, response=True)
        await _until(lambda: len(frames) >= 60)
        await second.write_gatt_char(CONTROL_UUID, STOP, response=True)
    await first.disconnect()
    return {"delivered": len(frames), "different": len(set(frames)), "copies": dict(Counter(Counter(frames).values()))}


async def leak_shown(air: Air) -> dict[str, Any]:
    return await leak(air, close_first=False)


async def leak_closed(air: Air) -> dict[str, Any]:
    return await leak(air, close_first=True)


async def pairing(air: Air) -> dict[str, Any]:
    """A device that wants an encrypted link and has a key: paired, recorded, met again, and its bond lost on either side."""
    air.tell("locked on")
    keys = (LOCKED_KEY,)
    try:
        first = await recorded(air, 5, keys=keys)
        bond = (await bonds()).get(air.locked)
        again = await recorded(air, 2, keys=keys)
        air.tell("forget_bonds")
        after_reset = await recorded(air, 2, keys=keys)
        await forget_device(air.locked)
        unpaired = await timed(refused(air, keys=keys, pair=False, scan_s=SCAN_S))
        return {"first": first, "bond": bond, "again": again, "after_reset": after_reset, "unpaired": unpaired}
    finally:
        air.tell("locked off")


async def authentication(air: Air) -> dict[str, Any]:
    """Whom the application takes for its device: one whose key it knows, and nobody else unless it was told to."""
    wrong = await refused(air, keys=(OTHER_KEY,), scan_s=SCAN_S)
    return {"no_key": wrong, "wrong_key": await _with_locked(air, refused(air, keys=(OTHER_KEY,), scan_s=SCAN_S))}


async def _with_locked(air: Air, work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    air.tell("locked on")
    try:
        return await work
    finally:
        air.tell("locked off")


async def timed(work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    began_s = time.monotonic()
    return {**await work, "took_s": round(time.monotonic() - began_s, 1)}


async def adapter_off_in_the_middle(air: Air) -> dict[str, Any]:
    tasks = []

    def watch(progress: Any) -> None:
        if progress.elapsed_s >= 3 and not tasks:
            tasks.append(asyncio.ensure_future(adapter(powered=False)))

    found = await recorded(air, 10, on_progress=watch, watchdog_s=2.0, reconnect_for_s=4.0)
    await adapter_appears()
    return found


async def adapter_off(air: Air) -> dict[str, Any]:
    await adapter(powered=False)
    try:
        return await refused(air)
    finally:
        await adapter_appears()


async def no_adapter(air: Air) -> dict[str, Any]:
    air.unplug()
    await asyncio.sleep(2)
    return await refused(air)


async def no_service(air: Air) -> dict[str, Any]:
    """A fresh process asks, as an application that starts when the service does not run."""
    held = Path("/run/no-bluetoothd")
    held.touch()
    for pid in pids("bluetoothd"):
        os.kill(pid, signal.SIGTERM)
    await _until(lambda: not pids("bluetoothd"))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-B", "-c", REFUSED, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, errors = await child.communicate()
    in_this_process = await refused(air)
    held.unlink()
    await adapter_appears()
    return {**json.loads(said or "{}"), "stderr": errors.decode(), "in_a_running_application": in_this_process}


SCENARIOS: tuple[Callable[[Air], Awaitable[dict[str, Any]]], ...] = (
    ten_seconds, link_lost, bad_radio, leak_shown, leak_closed, crashed_application, power_lost, pairing,
    authentication, bluetoothd_killed,
    adapter_off_in_the_middle, adapter_off, no_service, no_adapter,
)  # fmt: skip


async def _found() -> Any:
    device = await BleakScanner.find_device_by_filter(lambda _d, a: SERVICE_UUID in a.service_uuids, timeout=SCAN_S)
    assert device is not None
    return device


async def _until(done: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not done() and time.monotonic() < deadline_s:
        await asyncio.sleep(0.05)


async def main(record: Path, wanted: set[str]) -> int:
    air = Air(record, log=OUT / "radio.log")
    if not await adapter_appears():
        return NO_ADAPTER_STATUS
    bluez = subprocess.run(["bluetoothctl", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    versions = {name: version(name) for name in ("bleak", "bleak-retry-connector", "dbus-fast", "bumble")}
    facts: dict[str, Any] = {
        "versions": {"bluez": bluez, "kernel": os.uname().release, **versions}, "device": air.device, "scenarios": {},
    }  # fmt: skip
    for scenario in SCENARIOS:
        name = scenario.__name__
        if wanted and name not in wanted:
            continue
        started_s = time.monotonic()
        try:
            if air.process.poll() is None:
                air.faults()
            found = await asyncio.wait_for(scenario(air), 180)
        except Exception as exc:
            found = {"failed": f"{type(exc).__name__}: {exc}", "trace": traceback.format_exc()}
        facts["scenarios"][name] = {**found, "seconds": round(time.monotonic() - started_s, 1)}
        print(name, json.dumps(facts["scenarios"][name]), flush=True)
        (OUT / "facts.json").write_text(json.dumps(facts, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), set(sys.argv[2:]))))
