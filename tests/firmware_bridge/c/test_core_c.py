"""The C core outside Python: its own tests under sanitizers, on an emulated Cortex-M4, its size, and a small fuzz run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_bridge.sim.device.core_build import CORE_FOLDER, CORE_SOURCES, STRICT_FLAGS, compiler, run_compiler
from tests.conftest import skip_for

M4_PROGRAMS = ("arm-none-eabi-gcc", "qemu-system-arm")
MAX_TEXT_BYTES = 4096
MAX_MODULE_LINES = 300


@pytest.fixture
def needs_c(request):
    if compiler() is None or shutil.which("make") is None:
        skip_for("a C compiler and make (Debian packages: gcc libc6-dev make)")


@pytest.fixture
def needs_m4(request, needs_c):
    absent = [name for name in M4_PROGRAMS if shutil.which(name) is None]
    if absent:
        packages = "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
        skip_for(f"{', '.join(absent)} (Debian packages: {packages})")


@pytest.fixture(scope="module")
def build(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("e6l")


def make(target: str, build: Path, *settings: str) -> str:
    program = compiler()
    assert program is not None
    command = [
        "make",
        "-C",
        str(CORE_FOLDER),
        target,
        f"BUILD={build}",
        f"PYTHON={sys.executable}",
        f"CC={program}",
        *settings,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, env=os.environ | {"LC_ALL": "C"}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def checks_of(output: str) -> tuple[int, int]:
    found = re.search(r"^(\d+) checks, (\d+) failed$", output, flags=re.MULTILINE)
    assert found, output
    return int(found[1]), int(found[2])


@pytest.mark.slow
@pytest.mark.promise(130)
@pytest.mark.parametrize("target", ["test", "test-any"])
def test_vectors_and_device_pass_under_address_and_undefined_sanitizers(needs_c, build, target):
    done, failed = checks_of(make(target, build))
    assert done > 4000
    assert failed == 0


@pytest.mark.slow
@pytest.mark.promise(130)
def test_the_same_tests_pass_on_an_emulated_cortex_m4(needs_m4, build):
    done, failed = checks_of(make("m4", build))
    assert done > 4000
    assert failed == 0


@pytest.mark.slow
@pytest.mark.promise(130)
def test_a_firmware_pays_at_most_4_kib_of_text_and_no_heap(needs_m4, build):
    output = make("size", build)
    found = re.search(r"^text (\d+) bytes, data 0$", output, flags=re.MULTILINE)
    assert found, output
    assert 2000 < int(found[1]) <= MAX_TEXT_BYTES
    assert re.search(r"^needs( mem(cpy|move|set))+$", output, flags=re.MULTILINE)


@pytest.mark.slow
def test_damaged_bytes_never_crash_the_core_and_never_pass_a_wrong_check_sum(needs_c, build):
    output = make("fuzz", build, "N=20000", "SEED=11")
    found = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    assert found["wrong"] == 0
    assert min(found["accepted"].values()) > 2000
    assert found["device_replies"][0] > 100


@pytest.mark.parametrize("name", CORE_SOURCES)
@pytest.mark.parametrize("flag", ["-O0", "-Os", "-O3"])
def test_the_core_is_c99_without_a_warning(needs_c, tmp_path, name, flag):
    program = compiler()
    assert program is not None
    run_compiler(
        program,
        (*STRICT_FLAGS, "-Wshadow", "-Wvla", "-Wcast-qual", flag, "-c", CORE_FOLDER / name, "-o", tmp_path / "core.o"),
    )


def test_the_core_takes_nothing_from_an_operating_system(needs_c, tmp_path):
    """Freestanding headers and memcpy, memmove, memset: nothing else may be included or called."""
    for name in CORE_SOURCES:
        text = (CORE_FOLDER / name).read_text(encoding="utf-8")
        assert set(re.findall(r"#include <(.*)>", text)) <= {"string.h", "stdint.h", "stddef.h"}
        assert set(re.findall(r"\b(mem\w+|str\w+|malloc|calloc|free|printf)\(", text)) <= {
            "memcpy",
            "memmove",
            "memset",
        }
        assert len(text.splitlines()) <= MAX_MODULE_LINES
