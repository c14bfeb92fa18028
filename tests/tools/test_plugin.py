"""The counting plugin against programs whose instructions can be counted by hand."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from tools.arm64 import guest
from tools.arm64.opcodes import WindowCount, histogram, read_window
from tools.arm64.qemu import find_qemu, plugin_library

pytestmark = [pytest.mark.needs_qemu, pytest.mark.usefixtures("needs_qemu")]

BASE = 0x400000
HEADERS = 64 + 56
SVC, NOP, SDOT, AESE = 0xD4000001, 0xD503201F, 0x4E829420, 0x4E284820
SUBS_X2_1, BNE_BACK_ONE = 0xF1000442, 0x54FFFFE1
EXIT = 93
GETPRIORITY = 141
SIGILL = 4


def movz(register: int, value: int) -> int:
    return 0xD2800000 | value << 5 | register


def movk_16(register: int, value: int) -> int:
    return 0xF2A00000 | value << 5 | register


def marked(which: int) -> list[int]:
    """getpriority(MARK, which): five instructions, the last of them the call."""
    return [
        movz(8, GETPRIORITY), movz(0, guest.MARK & 0xFFFF), movk_16(0, guest.MARK >> 16), movz(1, which), SVC,
    ]  # fmt: skip


def program(window: list[int]) -> bytes:
    """A static ELF file: BEGIN, the window, END, exit(0)."""
    code = [*marked(guest.BEGIN), *window, *marked(guest.END), movz(8, EXIT), movz(0, 0), SVC]
    text = struct.pack(f"<{len(code)}I", *code)
    size = HEADERS + len(text)
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, BASE + HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return elf + struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x1000) + text


def count(window: list[int], folder: Path, *, cpu: str = "cortex-a72") -> WindowCount:
    binary, out = folder / "program", folder / "window.txt"
    binary.write_bytes(program(window))
    binary.chmod(0o755)
    command = [*find_qemu().command, "-cpu", cpu, "-plugin", f"{plugin_library()},out={out}", str(binary)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return read_window(out)


END_MARK = 5  # the instructions of the second mark lie inside the window, up to its call


@pytest.mark.promise(123)
@pytest.mark.parametrize("times", [1, 7, 1000])
def test_a_loop_is_counted_to_the_instruction(times, tmp_path):
    counted = count([movz(2, times), SUBS_X2_1, BNE_BACK_ONE], tmp_path)
    assert counted.instructions == 1 + 2 * times + END_MARK
    assert counted.words[SUBS_X2_1] == counted.words[BNE_BACK_ONE] == times
    assert counted.foreign == 0


def test_an_empty_window_holds_the_second_mark_only(tmp_path):
    assert count([], tmp_path).instructions == END_MARK


def test_a_second_begin_starts_the_count_anew(tmp_path):
    counted = count([*[NOP] * 50, *marked(guest.BEGIN), NOP], tmp_path)
    assert counted.instructions == 1 + END_MARK
    assert counted.words[NOP] == 1


def test_other_calls_of_getpriority_are_no_marks(tmp_path):
    foreign = [movz(8, GETPRIORITY), movz(0, 0), movz(1, guest.BEGIN), SVC]
    assert count([NOP, *foreign, NOP], tmp_path).instructions == 2 + len(foreign) + END_MARK


def test_code_behind_the_last_mark_is_not_counted(tmp_path):
    assert movz(8, EXIT) not in count([NOP], tmp_path).words


def test_a_cortex_a76_executes_dot_products_and_the_histogram_shows_them(tmp_path):
    assert histogram(count([SDOT, SDOT], tmp_path, cpu="cortex-a76").words).counts["dotprod"] == 2


def test_an_emulated_cortex_a72_has_no_dot_product(tmp_path):
    binary = tmp_path / "program"
    binary.write_bytes(program([SDOT]))
    binary.chmod(0o755)
    done = subprocess.run(
        [*find_qemu().command, "-cpu", "cortex-a72", str(binary)], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == -SIGILL


def test_an_emulated_cortex_a72_has_aes_unlike_the_chip_so_the_histogram_must_tell(tmp_path):
    assert histogram(count([AESE], tmp_path).words).counts["crypto"] == 1


def test_without_a_file_to_write_to_the_plugin_does_not_load(tmp_path):
    binary = tmp_path / "program"
    binary.write_bytes(program([]))
    binary.chmod(0o755)
    done = subprocess.run(
        [*find_qemu().command, "-plugin", str(plugin_library()), str(binary)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "out=PATH" in done.stderr
