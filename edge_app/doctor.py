"""Look at the machine as a maintainer would: what the app needs, whether it is there, what to do where it is not."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from edge_app.devices.simulated_radio import BUS_VARIABLE
from lsemvae.ecg.errors import EcgError

# A recording takes about 30 kB, so this is room for thousands; below it the next update of the app may fail.
_MIN_FREE_BYTES: Final = 200 * 1024 * 1024

# What `run` talks to on Linux unless BUS_VARIABLE names another: the bus behind which the Bluetooth service listens.
_BUS_SOCKET: Final = Path("/run/dbus/system_bus_socket")
_ADAPTERS: Final = Path("/sys/class/bluetooth")

_PACKAGES: Final = (
    "numpy",
    "ai-edge-litert",
    "cryptography",
    "bleak",
    "bleak-retry-connector",
    "onnxruntime",
    "pydicom",
)


class Status(StrEnum):
    """How bad it is: FAIL stops screening, WARN stops one way of using the app."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    status: Status
    detail: str
    advice: str = ""
    code: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"status": self.status.value}


@dataclass(frozen=True, slots=True)
class _Machine:
    """What is looked at."""

    data_dir: Path
    bundle: Path | None
    trusted_keys: Sequence[bytes]


# The checks by name, in the order in which they are shown.
_CHECKS: Final[dict[str, Callable[[_Machine], Check]]] = {}


def _check(name: str) -> Callable[[Callable[[_Machine], Check]], Callable[[_Machine], Check]]:
    """Decorate a function as the check `name`; an `EcgError` that it raises is a finding."""

    def register(look: Callable[[_Machine], Check]) -> Callable[[_Machine], Check]:
        def guarded(machine: _Machine) -> Check:
            try:
                return look(machine)
            except EcgError as error:
                return Check(name, Status.FAIL, str(error), error.advice, error.code)

        _CHECKS[name] = guarded
        return guarded

    return register


def examine(data_dir: Path, *, bundle: Path | None = None, trusted_keys: Sequence[bytes]) -> list[Check]:
    """Run every check; none of them writes anything.

    Parameters
    ----------
    data_dir
        Folder of recordings.
    bundle
        Model bundle; None: the one shipped with the app.
    trusted_keys
        Public keys whose bundles may run.
    """
    machine = _Machine(data_dir, bundle, trusted_keys)
    return [check(machine) for check in _CHECKS.values()]


@_check("system")
def _system(_machine: _Machine) -> Check:
    bits = 64 if sys.maxsize > 2**32 else 32
    detail = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {bits} bit"
    if bits == 32:
        return Check("system", Status.FAIL, detail, "Install a 64-bit system: no model runtime exists for this one.")
    return Check("system", Status.OK, detail)


@_check("packages")
def _packages(_machine: _Machine) -> Check:
    from importlib.metadata import PackageNotFoundError, version

    found, missing = [], []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    lacking = f"; not installed: {', '.join(missing)}" if missing else ""
    return Check("packages", Status.OK, ", ".join(found) + lacking)


@_check("bundle")
def _bundle(machine: _Machine) -> Check:
    from lsemvae.screen.bundle import open_bundle
    from lsemvae.screen.ratchet import VersionRatchet
    from lsemvae.screen.runtime.load import load_runtime
    from lsemvae.screen.selftest import self_test

    ratchet = VersionRatchet(machine.data_dir)
    bundle = open_bundle(machine.bundle, trusted_keys=machine.trusted_keys, ratchet=ratchet)
    runtime = load_runtime(bundle)
    self_test(bundle, runtime)
    name = f"{bundle.manifest.id} {bundle.manifest.version}"
    return Check("bundle", Status.OK, f"{name} passed its self-test on {runtime.name} {runtime.version}")


@_check("store")
def _store(machine: _Machine) -> Check:
    """Check the store; where there is none, whether the first recording could create it."""
    from edge_app.store.records import STORE_FILE, ClinicStore

    path = machine.data_dir / STORE_FILE
    if path.exists():
        with ClinicStore(path, create=False) as store:
            faults = store.integrity_check()
        if faults:
            advice = "Stop recording, copy the data folder away and ask for help."
            return Check("store", Status.FAIL, f"{store.path}: {'; '.join(faults[:3])}", advice, "E_STORE")
        return Check("store", Status.OK, f"{store.path} is sound")
    folder = _existing(machine.data_dir)
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return Check("store", Status.OK, f"nothing recorded yet in {machine.data_dir}")
    advice = "Check how the disk is mounted and who owns the folder, or choose another with --data-dir."
    detail = f"{machine.data_dir} cannot be created: {folder} is not writable"
    return Check("store", Status.FAIL, detail, advice, "E_STORE")


@_check("recovery")
def _interrupted(machine: _Machine) -> Check:
    from edge_app.session.recorder import waiting

    count = waiting(machine.data_dir)
    if count:
        return Check("recovery", Status.WARN, f"{count} interrupted recording(s)", "Store them with: edge_app recover")
    return Check("recovery", Status.OK, "no interrupted recording")


def _existing(path: Path) -> Path:
    """Return `path`, or its nearest parent that exists."""
    return next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))


@_check("disk")
def _disk(machine: _Machine) -> Check:
    free = shutil.disk_usage(_existing(machine.data_dir)).free
    detail = f"{free // 2**20} MiB free for {machine.data_dir}"
    if free < _MIN_FREE_BYTES:
        return Check("disk", Status.WARN, detail, f"Free some space: at least {_MIN_FREE_BYTES // 2**20} MiB.")
    return Check("disk", Status.OK, detail)


@_check("clock")
def _clock(_machine: _Machine) -> Check:
    from edge_app.store.clock import now

    time = now()
    if time.trusted:
        return Check("clock", Status.OK, f"{time.utc_iso}, synchronised")
    advice = "Compare the date with a watch; results carry the note that nothing vouches for their time."
    return Check("clock", Status.WARN, f"{time.utc_iso}, not known to be synchronised", advice)


@_check("bluetooth")
def _bluetooth(_machine: _Machine) -> Check:
    if sys.platform != "linux":
        return Check("bluetooth", Status.OK, "left to the system")
    if not os.environ.get(BUS_VARIABLE) and not _BUS_SOCKET.exists():
        advice = "Start the Bluetooth service to use `edge_app run`; files can be screened without."
        return Check("bluetooth", Status.WARN, "no system bus, so no Bluetooth", advice)
    adapters = sorted(entry.name for entry in _ADAPTERS.iterdir()) if _ADAPTERS.is_dir() else []
    if not adapters and not os.environ.get(BUS_VARIABLE):
        advice = "Plug in or switch on a Bluetooth adapter to use `edge_app run`; files can be screened without."
        return Check("bluetooth", Status.WARN, "no adapter", advice)
    return Check("bluetooth", Status.OK, f"adapters: {', '.join(adapters) or 'on a private bus'}")


@_check("devices")
def _devices(machine: _Machine) -> Check:
    """Say whose recordings are taken: `edge_app run` refuses a device whose key is not known."""
    from edge_app.session.keys import DeviceKeys

    names = [key.name for key in DeviceKeys(machine.data_dir)]
    if not names:
        advice = "Trust your device by the code on its case: edge_app devices trust"
        return Check("devices", Status.WARN, "no device is trusted, so none can be recorded", advice)
    return Check("devices", Status.OK, f"trusted: {', '.join(names)}")
