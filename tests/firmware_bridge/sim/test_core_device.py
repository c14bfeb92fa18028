"""The C core obeys PROTOCOL.md: every test of the device in pure Python runs against it as well."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest

from firmware_bridge.sim.device import core_build
from firmware_bridge.sim.device.core_device import CoreDevice, make_device
from firmware_bridge.sim.device.device import VirtualDevice
from firmware_bridge.sim.device.source import SignalSource
from lsemvae.ecg.errors import LinkError

DEVICE_TESTS = ("sim/test_virtual_device", "sim/test_recordings", "sim/test_calibration", "protocol/test_authenticity")
ROOM = Path(__file__).resolve().parents[1]


pytestmark = pytest.mark.usefixtures("needs_core")


def _tests_with_the_core(name: str) -> dict[str, Callable[..., Any]]:
    """The tests of a file, in a copy of it that knows `CoreDevice` by the name `VirtualDevice`."""
    spec = importlib.util.spec_from_file_location(f"{Path(name).name}_with_the_core", ROOM / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if hasattr(module, "VirtualDevice"):
        module.VirtualDevice = CoreDevice
    tests = {key: value for key, value in vars(module).items() if key.startswith("test_")}
    uses = [key for key, value in tests.items() if isinstance(value, FunctionType)]
    assert uses
    return {f"{key}__{Path(name).name.removeprefix('test_')}_in_c": tests[key] for key in uses}


for _name in DEVICE_TESTS:
    globals().update(_tests_with_the_core(_name))


def _source() -> SignalSource:
    return SignalSource(codes=np.zeros((2, 100), np.int32), contact=np.zeros(100, np.uint8), fs_hz=500.0)


def test_make_device_takes_the_c_core_where_it_can_be_built():
    assert type(make_device(_source())) is CoreDevice
    assert type(make_device(_source(), core=True)) is CoreDevice
    assert type(make_device(_source(), core=False)) is VirtualDevice


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    core_build.load_core.cache_clear()
    yield
    core_build.load_core.cache_clear()


def test_without_a_compiler_the_device_in_pure_python_is_taken(no_compiler):
    assert type(make_device(_source())) is VirtualDevice


def test_without_a_compiler_the_c_core_is_refused_with_advice(no_compiler):
    with pytest.raises(LinkError, match="found no a C compiler") as caught:
        make_device(_source(), core=True)
    assert "core=False" in caught.value.advice


@pytest.mark.slow
def test_the_core_is_built_once_and_its_name_follows_the_sources(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    core_build.load_core.cache_clear()
    try:
        core_build.load_core()
        (first,) = (tmp_path / "lsemvae" / "e6l-core").iterdir()
        before = first.stat().st_mtime_ns
        core_build.load_core.cache_clear()
        core_build.load_core()
        assert [item.stat().st_mtime_ns for item in first.parent.iterdir()] == [before]
        changed = tmp_path / "c"
        changed.mkdir()
        for item in (*core_build.CORE_SOURCES, *core_build.CORE_HEADERS):
            (changed / item).write_bytes((core_build.CORE_FOLDER / item).read_bytes())
        codec = changed / "e6l_codec.c"
        codec.write_text(codec.read_text() + "\n/* changed */\n")
        monkeypatch.setattr(core_build, "CORE_FOLDER", changed)
        core_build.load_core.cache_clear()
        core_build.load_core()
        assert len(list(first.parent.iterdir())) == 2
    finally:
        core_build.load_core.cache_clear()


def test_a_source_that_does_not_compile_is_an_error_with_the_compiler_s_words(tmp_path, monkeypatch):
    program = core_build.compiler()
    assert program is not None
    broken = tmp_path / "broken.c"
    broken.write_text("int f(void) { return }\n")
    with pytest.raises(LinkError, match=r"found exit status 1 .*expected 0.*broken\.c"):
        core_build.run_compiler(program, ("-c", broken, "-o", tmp_path / "broken.o"))
