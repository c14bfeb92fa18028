"""`edge_app devices`: what is in reach, what it says about itself, and which devices this clinic trusts."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from edge_app.commands import devices_record, devices_simulate
from edge_app.commands.options import DeviceName, SerialPath, Simulated
from lsemvae.terminal.console import reports_errors, say, say_json, say_progress
from lsemvae.terminal.options import DataDir, Json

app = typer.Typer(no_args_is_help=True, help="Find, describe, watch, record and simulate six-lead devices.")

_SCAN_S: Final = 8.0

ScanSeconds = Annotated[float, typer.Option("--seconds", min=1.0, max=120.0, help="How long to listen.")]


@app.command("scan")
@reports_errors
def scan(
    seconds: ScanSeconds = _SCAN_S,
    everything: Annotated[bool, typer.Option("--all", help="List other Bluetooth devices too.")] = False,
    as_json: Json = False,
    simulated: Simulated = None,
) -> None:
    """List the devices in reach of Bluetooth that a driver knows."""
    from edge_app.devices.ways import SIMULATED_NOTE, choose_radio
    from edge_app.link.ble.scan import scan as listen
    from edge_app.session.loop import run

    played = choose_radio(simulated=simulated)
    if played:
        say_progress(SIMULATED_NOTE)
    say_progress(f"Listening for {seconds:g} s ...")
    seen = run(listen(seconds))
    shown = [device for device in seen if everything or device.driver is not None]
    if as_json:
        listed = [
            {
                "name": device.name,
                "address": device.address,
                "rssi_dbm": device.rssi,
                "driver": device.driver,
                "services": list(device.services),
            }
            for device in shown
        ]
        say_json({"simulated": played, "devices": listed, "heard": len(seen)})
        return
    if not shown:
        say(f"No device that a driver knows ({len(seen)} others). Switch the device on and bring it near.")
        return
    say(f"{'name':<20}{'address':<20}{'signal':>8}  driver")
    for device in shown:
        signal = f"{device.rssi} dBm"
        say(f"{device.name or '-':<20}{device.address:<20}{signal:>8}  {device.driver or '-'}")


@app.command("info")
@reports_errors
def info(
    device: DeviceName = None,
    serial: SerialPath = None,
    self_test: Annotated[bool, typer.Option("--self-test", help="Have the device test itself.")] = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure the device's calibration pulse; electrodes may stay off.")
    ] = False,
    as_json: Json = False,
    data_dir: DataDir = None,
    simulated: Simulated = None,
) -> None:
    """Show what a device says about itself, whether it is trusted, and on request whether it measures right."""
    from edge_app.devices.facts import ask_device
    from edge_app.devices.ways import keys_for, way_to
    from edge_app.session.loop import run
    from lsemvae.screen.datadir import data_dir as choose

    way = way_to(device=device, serial=serial, simulated=simulated)
    if way.note:
        say_progress(way.note)
    facts = run(
        ask_device(way.transport, keys=keys_for(way, choose(data_dir)), self_test=self_test, calibrate=calibrate)
    )
    if as_json:
        say_json({"simulated": way.simulated, **facts.to_dict()})
        return
    descriptor, status = facts.descriptor, facts.status
    lines = [
        ("device", f"{facts.link.name} ({facts.link.address}), {facts.link.kind}, packets of {facts.link.mtu} bytes"),
        ("leads", f"{', '.join(descriptor.leads)} at {descriptor.fs_hz:g} Hz, {descriptor.adc_bits} bits"),
        ("one code", f"{descriptor.lsb_uv:g} uV, range +-{descriptor.range_uv / 1000:g} mV"),
        ("own filters", facts.filters),
        ("can", ", ".join(facts.features) or "stream"),
        ("memory", f"{descriptor.ring_s} s to send again"),
        ("state", f"{status.state.name.lower()}, battery {status.battery_percent} % ({status.battery_mv} mV)"),
        ("trusted", facts.trusted),
    ]
    if facts.self_test is not None:
        lines.append(("self-test", facts.self_test))
    if facts.calibration is not None:
        lines.append(("calibration", facts.calibration))
    for name, value in lines:
        say(f"{name:<16}{value}")


@app.command("trust")
@reports_errors
def trust(
    replace: Annotated[bool, typer.Option("--replace", help="The device got a new code: forget the old one.")] = False,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Trust a device by the code on its case, typed or scanned when asked for, or from standard input."""
    from edge_app.session.keys import DeviceKeys
    from lsemvae.screen.datadir import data_dir as choose

    # The code is a secret: it is asked for, so that neither the shell's history nor the list of processes shows it.
    text = typer.prompt("Code on the case", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
    key = DeviceKeys(choose(data_dir)).add(text, replace=replace)
    if as_json:
        say_json({"name": key.name, "fingerprint": key.fingerprint})
    else:
        say(f"Trusted: {key.name} (key {key.fingerprint})")


@app.command("forget")
@reports_errors
def forget(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a trusted device.", show_default=False)],
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Trust a device no longer."""
    from edge_app.session.keys import DeviceKeys
    from lsemvae.screen.datadir import data_dir as choose

    key = DeviceKeys(choose(data_dir)).remove(name)
    if as_json:
        say_json({"name": key.name, "fingerprint": key.fingerprint})
    else:
        say(f"No longer trusted: {key.name} (key {key.fingerprint})")


@app.command("keys")
@reports_errors
def keys(as_json: Json = False, data_dir: DataDir = None) -> None:
    """List the devices that are trusted; the keys themselves are never shown."""
    from edge_app.session.keys import DeviceKeys
    from lsemvae.screen.datadir import data_dir as choose

    known = DeviceKeys(choose(data_dir)).list()
    if as_json:
        say_json([{"name": key.name, "fingerprint": key.fingerprint} for key in known])
        return
    if not known:
        say("No device is trusted yet: edge_app devices trust")
    for key in known:
        say(f"{key.name:<34}key {key.fingerprint}")


app.command("stream")(devices_record.stream)
app.command("record")(devices_record.record)
app.command("simulate")(devices_simulate.simulate)
