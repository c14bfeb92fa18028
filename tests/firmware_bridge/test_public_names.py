"""The names that `import firmware_bridge` offers: these and no others, each loaded at its first use."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import firmware_bridge

NAMES = (
    "Assembler", "DeviceDescriptor", "DeviceKey", "DeviceStatus", "LiveFrame", "Recording", "catalogue", "decode_descriptor",
    "decode_frame", "decode_status", "encode_descriptor", "encode_frame", "encode_status", "make_driver", "recognise",
)  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    """Modules of a fresh process after `statement`."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_the_public_names_are_these():
    assert tuple(firmware_bridge.__all__) == NAMES
    assert set(NAMES) <= set(dir(firmware_bridge))


def test_importing_the_package_loads_nothing_of_it():
    found = loaded_by("import firmware_bridge")
    assert "numpy" not in found
    assert {name for name in found if name.startswith(("firmware_bridge.", "lsemvae"))} == set()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_what_its_module_defines_and_loads_the_floor_only(name):
    found = loaded_by(f"import firmware_bridge\nfirst = firmware_bridge.{name}\nassert first is firmware_bridge.{name}")
    assert not found & {"scipy", "torch", "asyncio", "socket", "bleak", "cffi", "lsemvae.formats", "lsemvae.screen"}
    assert {name for name in found if name.startswith("firmware_bridge.sim")} == set()


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="'decode_everything'"):
        firmware_bridge.decode_everything  # noqa: B018


def test_bytes_become_a_record_by_the_public_names_alone():
    descriptor = firmware_bridge.DeviceDescriptor(
        leads=("I", "II"), fs_mhz=500_000, lsb_pv=48_100, range_uv=403_000, boot_id=7
    )
    recording = firmware_bridge.Recording()
    recording.begin(firmware_bridge.decode_descriptor(firmware_bridge.encode_descriptor(descriptor)))
    frame = firmware_bridge.LiveFrame(samples=np.array([[1, 2], [3, 5]], dtype=np.int32), t0=0)
    assert recording.feed_bytes(firmware_bridge.encode_frame(frame)) is not None
    assert recording.to_record().n_samples == 2


def test_a_driver_is_found_by_its_name_and_made():
    assert firmware_bridge.recognise(name="Polar H10 12345678") == "polar-h10"
    assert firmware_bridge.make_driver("polar-h10").info == firmware_bridge.catalogue["polar-h10"]().info
