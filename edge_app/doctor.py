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
from typing import Any

from edge_app.devices.simulated_radio import BUS_VARIABLE
from lsemvae.ecg.errors import EcgError

#: A recording takes about 30 kB, so this is room for thousands; below it the next update of the app may fail.
_MIN_FREE_BYTES = 200 * 1024 * 1024

#: What `run` talks to on Linux unless BUS_VARIABLE names another: the bus behind which the Bluetooth service listens.
_BUS_SOCKET = Path("/run/dbus/system_bus_socket")
_ADAPTERS = Path("/sys/class/bluetooth")

_PACKAGES = ("numpy", "ai-edge-litert", "cryptography", "bleak", "bleak-retry-connector", "onnxruntime", "pydicom")


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


def examine(data_dir: Path, *, bundle: Path | None = None, trusted_keys: Sequence[bytes]) -> list[Check]:
    """Run every check; none of them writes anything."""
    checks: list[Callable[[], Check]] = [
        _system,
        _packages,
        lambda: _bundle(bundle, data_dir, trusted_keys),
        lambda: _store(data_dir),
        lambda: _interrupted(data_dir),
        lambda: _disk(data_dir),
        _clock,
        _bluetooth,
        lambda: _devices(data_dir),
    ]
    return [_guarded(check) for check in checks]


def _guarded(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except EcgError as error:
        return Check(check.__name__.strip("_<>"), Status.FAIL, str(error), error.advice, error.code)


def _system() -> Check:
    bits = 64 if sys.maxsize > 2**32 else 32
    detail = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {bits} bit"
    if bits == 32:
        return Check("system", Status.FAIL, detail, "Install a 64-bit system: no model runtime exists for this one.")
    return Check("system", Status.OK, detail)


def _packages() -> Check:
    from importlib.metadata import PackageNotFoundError, version

    found, missing = [], []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    lacking = f"; not installed: {', '.join(missing)}" if missing else ""
    return Check("packages", Status.OK, ", ".join(found) + lacking)


def _bundle(path: Path | None, data_dir: Path, trusted_keys: Sequence[bytes]) -> Check:
    from lsemvae.screen.bundle import open_bundle
    from lsemvae.screen.ratchet import VersionRatchet
    from lsemvae.screen.runtime.load import load_runtime
    from lsemvae.screen.selftest import self_test

    try:
        bundle = open_bundle(path, trusted_keys=trusted_keys, ratchet=VersionRatchet(data_dir))
        runtime = load_runtime(bundle)
        self_test(bundle, runtime)
    except EcgError as error:
        return Check("bundle", Status.FAIL, str(error), error.advice, error.code)
    name = f"{bundle.manifest.id} {bundle.manifest.version}"
    return Check("bundle", Status.OK, f"{name} passed its self-test on {runtime.name} {runtime.version}")


def _store(data_dir: Path) -> Check:
    from edge_app.store.records import STORE_FILE, RecordStore

    path = data_dir / STORE_FILE
    if not path.exists():
        return _place_for_store(data_dir)
    try:
        with RecordStore(path, create=False) as store:
            faults = store.integrity_check()
    except EcgError as error:
        return Check("store", Status.FAIL, str(error), error.advice, error.code)
    if faults:
        advice = "Stop recording, copy the data folder away and ask for help."
        return Check("store", Status.FAIL, f"{store.path}: {'; '.join(faults[:3])}", advice, "E_STORE")
    return Check("store", Status.OK, f"{store.path} is sound")


def _interrupted(data_dir: Path) -> Check:
    from edge_app.session.live import waiting

    count = waiting(data_dir)
    if count:
        return Check("recovery", Status.WARN, f"{count} interrupted recording(s)", "Store them with: edge_app recover")
    return Check("recovery", Status.OK, "no interrupted recording")


def _place_for_store(data_dir: Path) -> Check:
    """Say whether the first recording could create the store."""
    folder = _existing(data_dir)
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return Check("store", Status.OK, f"nothing recorded yet in {data_dir}")
    advice = "Check how the disk is mounted and who owns the folder, or choose another with --data-dir."
    return Check("store", Status.FAIL, f"{data_dir} cannot be created: {folder} is not writable", advice, "E_STORE")


def _existing(path: Path) -> Path:
    """Return `path`, or its nearest parent that exists."""
    return next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))


def _disk(data_dir: Path) -> Check:
    free = shutil.disk_usage(_existing(data_dir)).free
    detail = f"{free // 2**20} MiB free for {data_dir}"
    if free < _MIN_FREE_BYTES:
        return Check("disk", Status.WARN, detail, f"Free some space: at least {_MIN_FREE_BYTES // 2**20} MiB.")
    return Check("disk", Status.OK, detail)


def _clock() -> Check:
    from edge_app.store.clock import now

    time = now()
    if time.trusted:
        return Check("clock", Status.OK, f"{time.utc_iso}, synchronised")
    advice = "Compare the date with a watch; results carry the note that nothing vouches for their time."
    return Check("clock", Status.WARN, f"{time.utc_iso}, not known to be synchronised", advice)


def _devices(data_dir: Path) -> Check:
    """Say whose recordings are taken: `edge_app run` refuses a device whose key is not known."""
    from edge_app.session.keys import DeviceKeys

    try:
        names = [key.name for key in DeviceKeys(data_dir)]
    except EcgError as error:
        return Check("devices", Status.FAIL, str(error), error.advice, error.code)
    if not names:
        advice = "Trust your device by the code on its case: edge_app devices trust"
        return Check("devices", Status.WARN, "no device is trusted, so none can be recorded", advice)
    return Check("devices", Status.OK, f"trusted: {', '.join(names)}")


def _bluetooth() -> Check:
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
