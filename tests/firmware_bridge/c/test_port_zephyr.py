"""The Zephyr port: its ADS1292R numbers through cffi, its whole behaviour on a board that is only a program, its files.

Zephyr is not here and no board is: what these tests cannot see, examples/zephyr/README.md says.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge_app.devices.calibration_check import measure_pulse
from firmware_bridge.assembly.reassembly import Assembler
from firmware_bridge.example import record_of_log
from firmware_bridge.protocol.codec import decode_frame
from firmware_bridge.protocol.descriptor import DeviceDescriptor, decode_descriptor
from firmware_bridge.protocol.profile import SERVICE_UUID, Contact, Feature, FrameFlag
from firmware_bridge.sim.device.core_build import CORE_FOLDER, compiler, declarations, run_compiler
from tests.conftest import skip_for

pytestmark = pytest.mark.slow  # the whole file: what its tests share takes long to make

PORT = CORE_FOLDER.parents[1] / "examples" / "zephyr"
MAX_MODULE_LINES = 300
NOMINAL_MHZ = 500_000
SCENARIOS = (
    "boot", "no_front_end", "unencrypted", "stream", "leads_off", "missed", "hole_too_large", "dies", "pulse",
    "pulse_ended_early", "pulse_stuck", "self_test", "radio_blocked", "link_lost", "small_mtu", "control_writes",
    "authenticate", "no_key", "recording", "update", "battery_low", "battery_unread",
)  # fmt: skip

# A fault put into the port, and a scenario that must notice it.
FAULTS = {
    "settling samples pass for an ECG": ("ads1292r_codes.h", "SETTLE_SAMPLES 5u", "SETTLE_SAMPLES 0u", "pulse"),
    "a torn sample is believed": ("acquisition.c", "error = -EAGAIN;", "error = 0;", "missed"),
    "a hole closes up": ("acquisition.c", "if (hole)\n", "if (0)\n", "missed"),
    "more notifications than buffers": ("gatt.c", "(CONFIG_BT_ATT_TX_COUNT - 2)", "30", "radio_blocked"),
    "an open characteristic": ("gatt.c", "BT_GATT_PERM_READ_ENCRYPT, read_descriptor", "1, read_descriptor", "boot"),
    "a link before encryption": ("link.c", "    number++;\n    mtu = 0;", "    number++;\n    mtu = 247;", "unencrypted"),
    "wrong SPI mode": ("acquisition.c", "| SPI_MODE_CPHA", "| SPI_MODE_CPOL", "boot"),
    "a failed end of the pulse is forgotten": ("acquisition.c", "pulse_on = on || failed;", "pulse_on = on;", "pulse_stuck"),
    "an update during a stream": ("main.c", "update_allow(e6l_may_update(&device));", "update_allow(true);", "update"),
}  # fmt: skip


@pytest.fixture(scope="module")
def program(request) -> str:
    found = compiler()
    if found is None or shutil.which("make") is None:
        skip_for("a C compiler and make (Debian packages: gcc libc6-dev make)")
    assert found is not None
    return found


# ---- numbers ----


@pytest.fixture(scope="module")
def codes(program, tmp_path_factory):
    """(ffi, lib) of ads1292r_codes.c and the core's codec."""
    cffi = pytest.importorskip("cffi")
    library = tmp_path_factory.mktemp("codes") / "codes.so"
    flags = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-O2", "-fPIC", "-shared")
    sources = (PORT / "src" / "ads1292r_codes.c", CORE_FOLDER / "e6l_codec.c")
    run_compiler(program, (*flags, f"-I{CORE_FOLDER}", *sources, "-o", library))
    ffi = cffi.FFI()
    ffi.cdef(declarations(program))
    header = (PORT / "src" / "ads1292r_codes.h").read_text(encoding="utf-8")
    own = run_compiler(
        program, ("-E", "-P", "-x", "c", "-"), text=re.sub(r"^#include .*$", "", header, flags=re.MULTILINE)
    )
    ffi.cdef(own)
    return ffi, ffi.dlopen(str(library))


def test_registers_are_those_of_the_set_up(codes):
    ffi, lib = codes
    out = ffi.new("uint8_t[12]")
    lib.ads1292r_registers(out)
    # 500 SPS; comparators, reference 2.42 V; 95 %, 6 nA, dc; gain 6; right leg of LA, RA, LL; IN1P, IN1N, IN2P; no respiration
    assert bytes(out).hex() == "0002e01000002707000203" + "00"
    # The bits that the data sheet fixes at 1: CONFIG2.7, LOFF.4, RESP1.1, RESP2.0.
    assert (out[2] & 0x80, out[3] & 0x10, out[9] & 0x02, out[10] & 0x01) == (0x80, 0x10, 0x02, 0x01)


def test_the_test_signal_replaces_the_electrodes_on_both_channels(codes):
    _ffi, lib = codes
    assert (lib.ads1292r_chset(0), lib.ads1292r_chset(1)) == (
        0x00,
        0x05,
    )  # MUX 0000 electrodes, 0101 test; gain 6 in both
    assert lib.ads1292r_config2(1) == lib.ads1292r_config2(0) | 0x03  # INT_TEST, TEST_FREQ


@pytest.mark.parametrize("value", [0, 1, -1, 256, 0x7FFFFF, -0x800000, -0x7FFFFF, 0x123456, -0x123456])
def test_a_code_is_24_bits_in_twos_complement_most_significant_first(codes, value):
    _ffi, lib = codes
    assert lib.ads1292r_code(value.to_bytes(3, "big", signed=True)) == value


# LOFF_STAT[4:0]: RLD_STAT, IN2N_OFF, IN2P_OFF, IN1N_OFF, IN1P_OFF.
@pytest.mark.parametrize(
    ("loff", "contact"),
    [
        (0b00000, Contact(0)),
        (0b00001, Contact.LA_OFF),
        (0b00010, Contact.RA_OFF),
        (0b00100, Contact.LL_OFF),
        (0b00111, Contact.RA_OFF | Contact.LA_OFF | Contact.LL_OFF),
        (0b01000, Contact(0)),  # IN2N is RA as well, and carries no current of its own
        (0b10000, Contact(0)),  # RLD_STAT says nothing while the amplifier runs
    ],
)
@pytest.mark.parametrize("gpio", [0, 3])
def test_the_status_word_says_which_electrode_is_off(codes, loff, contact, gpio):
    ffi, lib = codes
    found, lead_off = ffi.new("int32_t[2]"), ffi.new("uint8_t *")
    word = 0xC00000 | loff << 15 | gpio << 13
    assert lib.ads1292r_sample(word.to_bytes(3, "big") + bytes.fromhex("000100ffff00"), found, lead_off) == 0
    assert (list(found), lead_off[0]) == ([256, -256], int(contact))


@pytest.mark.parametrize("word", ["000000", "ffffff", "400000", "e00000", "d00000", "c00001", "c01000", "800000"])
def test_bytes_out_of_step_are_no_sample(codes, word):
    ffi, lib = codes
    found, lead_off = ffi.new("int32_t[2]"), ffi.new("uint8_t *")
    assert lib.ads1292r_sample(bytes.fromhex(word) + bytes(6), found, lead_off) < 0


def test_every_shift_of_a_sample_by_bits_is_noticed_or_impossible(codes):
    """A clock edge too many or too few moves all bits; a status word in the wrong place does not look like one."""
    ffi, lib = codes
    found, lead_off = ffi.new("int32_t[2]"), ffi.new("uint8_t *")
    sample = int.from_bytes(bytes.fromhex("c00000") + bytes.fromhex("012345fedcba"), "big")
    for shift in range(1, 72):
        moved = (sample << shift | sample >> (72 - shift)) & (1 << 72) - 1
        assert lib.ads1292r_sample(moved.to_bytes(9, "big"), found, lead_off) < 0, shift


def test_the_rate_is_counted_against_the_crystal(codes):
    _ffi, lib = codes
    for true_mhz in (485_500, 499_123, 500_000, 501_234, 514_500):
        n = 2 * true_mhz // 1000
        ticks = round(n * 1000 / true_mhz * 32768)
        assert abs(lib.ads1292r_rate_mhz(n, ticks, 32768) - true_mhz) <= 40e-6 * true_mhz  # half a tick in 2 s is 8 ppm
    assert lib.ads1292r_rate_mhz(5, 0, 32768) == 0
    assert [lib.ads1292r_rate_plausible(mhz) for mhz in (0, 250_000, 484_000, 486_000, 514_000, 516_000)] == [
        0,
        0,
        0,
        1,
        1,
        0,
    ]


def test_a_device_that_comes_back_describes_the_rate_it_had(codes):
    """A host compares it: two measurements are never the same to the millihertz."""
    _ffi, lib = codes
    assert lib.ads1292r_rate_to_describe(501_234, 501_240) == 501_234
    assert lib.ads1292r_rate_to_describe(501_234, 501_234 + 101) == 501_335  # 201 ppm: the oscillator has moved
    assert lib.ads1292r_rate_to_describe(0, 501_234) == 501_234


def _description(codes, *, has_key: int = 1) -> DeviceDescriptor:
    ffi, lib = codes
    made, out = ffi.new("e6l_descriptor *"), ffi.new("uint8_t[40]")
    lib.ads1292r_describe(made, 501_234, 77, 30, has_key)
    assert lib.e6l_descriptor_encode(made, out) == 40
    return decode_descriptor(bytes(out))


def test_the_descriptor_is_one_that_the_host_takes(codes):
    found = _description(codes)
    assert (found.fs_mhz, found.boot_id, found.ring_s) == (501_234, 77, 30)
    assert tuple(str(lead) for lead in found.leads) == ("I", "II")
    assert int(found.features) == 0xFF
    assert not _description(codes, has_key=0).features & Feature.DEVICE_KEY


def test_scale_and_pulse_follow_from_the_reference(codes):
    found = _description(codes)
    vref_v, gain = 2.42, 6
    assert found.lsb_pv == round(vref_v / gain / (2**23 - 1) * 1e12)
    assert found.calibration_nv == round(2 * vref_v / 2400 * 1e9)  # +-(VREFP - VREFN) / 2400, peak to peak
    assert found.range_uv == int(vref_v / gain * 1e6)
    # In codes the reference cancels.
    assert found.calibration_nv * 1000 / found.lsb_pv == pytest.approx(2 * gain / 2400 * (2**23 - 1), rel=1e-5)


def test_the_pulse_may_be_5_percent_off(codes):
    _ffi, lib = codes
    half = 20_971
    assert lib.ads1292r_pulse_in_range(-half, half)
    assert lib.ads1292r_pulse_in_range(5_000 - half, 5_000 + half)  # an offset is no gain error
    assert lib.ads1292r_pulse_in_range(round(-half * 1.049), round(half * 1.049))
    assert not lib.ads1292r_pulse_in_range(round(-half * 1.051), round(half * 1.051))
    assert not lib.ads1292r_pulse_in_range(round(-half * 0.949), round(half * 0.949))
    assert not lib.ads1292r_pulse_in_range(0, 0)


def test_the_battery_goes_from_0_to_100_and_never_back(codes):
    _ffi, lib = codes
    percent = [lib.ads1292r_battery_percent(mv) for mv in range(65_536)]
    assert percent == sorted(percent)
    assert (percent[0], percent[3300], percent[3700], percent[4200], percent[65_535]) == (0, 0, 30, 100, 100)


# ---- behaviour ----


@pytest.fixture(scope="module")
def port_test(program, tmp_path_factory) -> Path:
    """`make check`: all syntax checks and all scenarios, under the sanitizers; then the program that runs one."""
    folder = tmp_path_factory.mktemp("port")
    command = ["make", "-C", str(PORT), "check", f"BUILD={folder}", f"CC={program}"]
    environment = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment, check=False)
    assert (folder / "port-test").is_file(), done.stdout + done.stderr
    (folder / "output").write_text(done.stdout + done.stderr, encoding="utf-8")
    (folder / "status").write_text(str(done.returncode), encoding="utf-8")
    return folder / "port-test"


@pytest.mark.slow
@pytest.mark.promise(146)
def test_the_sources_are_c_without_a_warning_against_the_stub_headers(port_test):
    assert (port_test.parent / "status").read_text() == "0", (port_test.parent / "output").read_text()


def test_the_scenarios_are_all_named_here(port_test):
    done = subprocess.run([port_test], capture_output=True, text=True, timeout=30, check=True)
    assert tuple(done.stdout.split()) == SCENARIOS


@pytest.mark.promise(146)
@pytest.mark.parametrize("name", SCENARIOS)
def test_on_a_board_that_is_only_a_program(port_test, name):
    done = subprocess.run([port_test, name], capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"^(\d+) checks, (\d+) failed$", done.stdout, flags=re.MULTILINE)
    assert found, done.stdout + done.stderr
    assert int(found[1]) >= 5
    assert int(found[2]) == 0, done.stdout


def _log_of(port_test: Path, name: str) -> list[str]:
    done = subprocess.run([port_test, name, "log"], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


@pytest.mark.promise(146)
def test_the_host_makes_a_record_of_what_the_port_sent(port_test):
    record = record_of_log(_log_of(port_test, "stream"))
    assert record.leads == ("I", "II")
    assert record.fs_hz == pytest.approx(501.0, rel=40e-6)
    assert record.gaps == ()
    codes = 1000 + np.arange(record.n_samples) % 1000  # what the converter measured, by its own count
    expected_uv = np.stack((codes, -codes)) * 0.048081
    found_uv = record.samples * record.lsb_uv + np.array(record.offset_uv)[:, None]
    np.testing.assert_allclose(found_uv, expected_uv, atol=record.lsb_uv)


def test_the_host_measures_the_pulse_of_the_port(port_test):
    assembler = Assembler(n_leads=2, keep_calibration=True)
    entries = [json.loads(line) for line in _log_of(port_test, "pulse")]
    descriptor = decode_descriptor(bytes.fromhex(entries[1]["hex"]))
    frames = [decode_frame(bytes.fromhex(e["hex"]), n_leads=2) for e in entries[2:] if e["channel"] == "live"]
    for frame in frames:
        if frame.flags & FrameFlag.CALIBRATION:
            assembler.feed(frame)
    timeline = assembler.timeline()
    for lead in timeline.codes[:, timeline.received]:
        size, square = measure_pulse(lead)
        assert square
        assert size * descriptor.lsb_pv / 1000 == pytest.approx(descriptor.calibration_nv, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_port_is_noticed(program, tmp_path, fault):
    name, right, wrong, scenario = FAULTS[fault]
    shutil.copytree(PORT, tmp_path / "port")
    target = tmp_path / "port" / "src" / name
    text = target.read_text(encoding="utf-8")
    assert text.count(right) == 1
    target.write_text(text.replace(right, wrong), encoding="utf-8")
    port = tmp_path / "port"
    flags = (
        "-std=gnu11",
        "-O0",
        "-w",
        "-include",
        port / "stubs" / "autoconf.h",
        f"-I{port / 'stubs'}",
        f"-I{port / 'src'}",
        f"-I{CORE_FOLDER}",
    )
    run_compiler(program, (*flags, "-Dmain=port_main", "-c", port / "src" / "main.c", "-o", tmp_path / "main.o"))
    sources = [path for path in sorted((port / "src").glob("*.c")) if path.name != "main.c"]
    run_compiler(
        program,
        (
            *flags,
            *sources,
            *sorted(port.glob("test/*.c")),
            *sorted(CORE_FOLDER.glob("e6l_*.c")),
            tmp_path / "main.o",
            "-o",
            tmp_path / "run",
        ),
    )
    done = subprocess.run([tmp_path / "run", scenario], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout
    assert re.search(r", [1-9]\d* failed", done.stdout)


# ---- files ----


def test_the_service_is_the_one_that_hosts_look_for():
    first, *rest = SERVICE_UUID.split("-")
    text = (PORT / "src" / "gatt.c").read_text(encoding="utf-8")
    assert first == "9a6e0001"
    assert f"0x9a6e0000u + (n), {', '.join('0x' + part for part in rest)}" in text


def test_every_source_is_built_and_short():
    listed = (PORT / "CMakeLists.txt").read_text(encoding="utf-8")
    for path in (PORT / "src").glob("*.[ch]"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_MODULE_LINES, path.name
        assert path.suffix == ".h" or f"src/{path.name}\n" in listed
    for path in CORE_FOLDER.glob("e6l_*.c"):
        assert f"/{path.name}\n" in listed


def test_the_configuration_asks_for_what_the_sources_rely_on():
    settings = dict(
        line.split("=", 1)
        for line in (PORT / "prj.conf").read_text(encoding="utf-8").splitlines()
        if line.startswith("CONFIG_")
    )
    stubbed = dict(
        re.findall(r"#define (CONFIG_\w+) (.+)", (PORT / "stubs" / "autoconf.h").read_text(encoding="utf-8"))
    )
    assert settings["CONFIG_BT_ATT_TX_COUNT"] == stubbed["CONFIG_BT_ATT_TX_COUNT"]
    for name in ("BT_SMP_SC_PAIR_ONLY", "BT_SETTINGS", "MCUMGR_TRANSPORT_BT_PERM_RW_ENCRYPT", "MCUMGR_GRP_IMG_UPLOAD_CHECK_HOOK",
                 "MCUMGR_GRP_OS_RESET_HOOK", "MCUMGR_MGMT_NOTIFICATION_HOOKS", "CLOCK_CONTROL_NRF_K32SRC_XTAL"):  # fmt: skip
        assert settings[f"CONFIG_{name}"] == "y"
    assert settings["CONFIG_BT_L2CAP_TX_MTU"] == "247"
    assert settings["CONFIG_LOG"] == "n"  # a log could hold the patient's signal


def test_ring_and_recording_fit_the_memory_of_the_processor():
    """256 KiB; what is left for Bluetooth, stacks and buffers is what README.md says."""
    used = 30 * 515 * (7 + 6)
    assert 256 * 1024 - used > 60_000
    assert "200 850 bytes" in (PORT / "README.md").read_text(encoding="utf-8")
    assert used == 200_850


def test_the_page_says_what_it_is_not():
    text = " ".join((PORT / "README.md").read_text(encoding="utf-8").split())
    for said in ("never compiled with Zephyr", "never run on a board", "no medical device", "type BF", "defibrillat"):
        assert said in text
