"""The strip in a terminal: the right shape, scale and width, in braille and in ASCII, with and without colour."""

from __future__ import annotations

import numpy as np
import pytest

from lsemvae.ecg.record import EcgRecord
from lsemvae.ecg.runs import Interval
from lsemvae.terminal.console import strip_style
from lsemvae.terminal.result_view import draw
from lsemvae.terminal.strip import StripStyle, render_strip

FS_HZ = 250.0


def _spike(at_s: float, seconds: float = 2.0) -> np.ndarray:
    signal = np.zeros(round(FS_HZ * seconds))
    signal[round(at_s * FS_HZ) : round(at_s * FS_HZ) + 5] = 1.0
    return signal


def _plot(text: str) -> list[str]:
    """Return the cells right of the scale, row by row."""
    return [line[9:] for line in text.splitlines() if line[8:9] in ("|", "\u2502")]


@pytest.mark.parametrize("at_s", [0.2, 1.0, 1.7])
@pytest.mark.parametrize("unicode", [True, False])
def test_a_spike_is_drawn_where_it_is(at_s: float, unicode: bool) -> None:
    rows = _plot(render_strip(_spike(at_s), fs_hz=FS_HZ, lead="II", style=StripStyle(width=100, unicode=unicode)))
    column = len(rows[0].rstrip()) - 1
    assert column / 91 == pytest.approx(at_s / 2.0, abs=0.03)
    assert all(len(row) > column and row[column] != " " for row in rows)
    if not unicode:
        assert rows[-1].count("*") > 60, "the rest is the line at zero"


def test_the_scale_names_millivolts_and_seconds() -> None:
    signal = np.concatenate([np.linspace(-0.73, 1.24, 500), np.zeros(750)])
    text = render_strip(signal, fs_hz=FS_HZ, lead="aVF", style=StripStyle(width=90))
    lines = text.splitlines()
    assert lines[0] == "lead aVF, 5.0 s, 5.0 s a row, -0.8 to +1.3 mV"
    assert lines[1].startswith("+1.3 mV ")
    assert lines[8].startswith("-0.8 mV ")
    assert any(line.startswith("   0 mV ") for line in lines[2:8])
    assert lines[9].endswith("5.0 s")


@pytest.mark.parametrize("width", [20, 40, 79, 80, 120, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_wider_than_the_terminal(width: int, unicode: bool) -> None:
    signal = np.sin(np.arange(3000) / 20)
    text = render_strip(signal, fs_hz=FS_HZ, lead="II", style=StripStyle(width=width, unicode=unicode))
    assert max(len(line) for line in text.splitlines()[1:]) <= width
    assert text.splitlines()[-1].rstrip().endswith("s")


def test_narrow_terminals_get_more_rows() -> None:
    signal = np.zeros(2500)
    rows = [
        render_strip(signal, fs_hz=FS_HZ, lead="II", style=StripStyle(width=w)).count("\u2514") for w in (200, 100, 50)
    ]
    assert rows == sorted(rows)
    assert rows[0] < rows[-1]


def test_noise_is_not_blown_up_to_an_ecg() -> None:
    signal = np.random.default_rng(0).normal(scale=0.005, size=1000)
    assert "-0.3 to +0.3 mV" in render_strip(signal, fs_hz=FS_HZ, lead="II")


@pytest.mark.parametrize("signal", [np.full(500, np.nan), np.zeros(1), np.full(10, 2.0), np.array([np.nan, 1.0])])
def test_any_signal_can_be_drawn(signal: np.ndarray) -> None:
    assert "lead II" in render_strip(signal, fs_hz=FS_HZ, lead="II")


def test_ascii_is_ascii_and_colour_only_on_demand() -> None:
    signal = _spike(1.0)
    plain = render_strip(signal, fs_hz=FS_HZ, lead="II", style=StripStyle(unicode=False))
    plain.encode("ascii")
    assert "\x1b" not in render_strip(signal, fs_hz=FS_HZ, lead="II")
    assert "\x1b[32m" in render_strip(signal, fs_hz=FS_HZ, lead="II", style=StripStyle(colour=True))


def test_a_gap_stays_blank() -> None:
    samples = np.full((1, 1000), 50, dtype=np.int16)
    samples[:, 400:600] = 0
    record = EcgRecord(samples=samples, lsb_uv=10.0, fs_hz=FS_HZ, leads=("II",), gaps=(Interval(400, 600),))
    rows = _plot(draw(record, StripStyle(width=109, unicode=False)))
    joined = [any(column != " " for column in cells) for cells in zip(*(row.ljust(100) for row in rows), strict=True)]
    assert joined[:38] == [True] * 38
    assert joined[42:58] == [False] * 16
    assert joined[62:100] == [True] * 38


def test_lead_ii_is_drawn_and_another_where_there_is_none() -> None:
    two = EcgRecord(samples=np.zeros((2, 500), dtype=np.int16), lsb_uv=1.0, fs_hz=FS_HZ, leads=("I", "II"))
    assert "lead II," in draw(two, StripStyle())
    assert "lead V1," in draw(two.with_(leads=("V1", "V2")), StripStyle())


@pytest.mark.parametrize(
    ("environment", "colour"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], colour: bool) -> None:
    import sys

    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert strip_style().colour is colour


def test_a_pipe_gets_no_colour() -> None:
    assert strip_style().colour is False
