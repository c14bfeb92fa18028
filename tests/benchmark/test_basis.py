"""A figure says how it is known, and a table holds figures of one basis."""

from __future__ import annotations

import math

import pytest

from export.benchmark.basis import Basis, BenchmarkSection, Figure, show
from export.benchmark.devices import BOARDS, DEVICES, board
from export.benchmark.errors import BenchmarkError


def figure(basis: Basis = Basis.MEASURED, value: float = 2.0, **more) -> Figure:
    return Figure(name="latency", value=value, unit="ms", basis=basis, **more)


@pytest.mark.promise(121)
@pytest.mark.parametrize("foreign", [Basis.PROJECTED, Basis.EMULATED])
def test_a_table_never_mixes_bases(foreign: Basis) -> None:
    with pytest.raises(BenchmarkError, match="is MEASURED; found figures of another basis: latency"):
        BenchmarkSection(title="t", basis=Basis.MEASURED, rows=(("a", (figure(), figure(foreign))),))


@pytest.mark.promise(121)
def test_every_figure_carries_its_basis_into_json() -> None:
    said = BenchmarkSection(
        title="t", basis=Basis.PROJECTED, rows=(("a", (figure(Basis.PROJECTED, low=1.0, high=3.0),)),)
    ).to_dict()
    assert said["basis"] == "PROJECTED"
    assert said["rows"][0]["figures"][0] == {
        "name": "latency", "value": 2.0, "unit": "ms", "basis": "PROJECTED", "low": 1.0, "high": 3.0, "note": "",
    }  # fmt: skip
    assert {basis.value for basis in Basis} == {"MEASURED", "PROJECTED", "EMULATED-FUNCTIONAL-ONLY"}


@pytest.mark.parametrize("bad", [{"value": math.nan}, {"value": math.inf}, {"high": math.nan}])
def test_numbers_that_are_not_finite_are_refused(bad: dict) -> None:
    with pytest.raises(BenchmarkError, match="expected finite numbers"):
        figure(**bad)


def test_a_value_outside_its_own_range_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="outside its own range"):
        figure(value=4.0, low=1.0, high=3.0)


@pytest.mark.parametrize(
    ("value", "text"), [(4846846, "4,846,846"), (0.08234, "0.0823"), (12.3456, "12.3"), (1234.5, "1,234"), (0.0, "0")]
)
def test_three_digits_are_shown_and_counts_in_full(value: float, text: str) -> None:
    assert show(value) == text


def test_boards_are_known_by_name_and_others_are_listed() -> None:
    assert DEVICES == ("host", "pi4", "pi5", "zero2w")
    assert all(board(name).name == name for name in BOARDS)
    with pytest.raises(BenchmarkError, match="found the device 'pi6', expected one of host, pi4, pi5, zero2w"):
        board("pi6")


def test_the_raspberry_pi_4_has_no_crypto_instructions_and_no_dot_product() -> None:
    """QEMU's cortex-a72 has AES; libraries choose by the board's cpuinfo, so that must not have it."""
    assert not {"aes", "sha1", "sha2", "pmull", "asimddp", "atomics"} & set(board("pi4").features.split())
