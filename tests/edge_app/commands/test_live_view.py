"""The live view: newest seconds of both leads, gaps blank, contact and link in words; lines where there is no terminal."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
from rich.console import Console

from edge_app.commands.live_view import LiveView, SignalWindow, contact_text
from edge_app.link.inprocess import InProcessTransport
from edge_app.session import record_session
from edge_app.session.events import Progress
from firmware_bridge.protocol.codec import LiveFrame
from firmware_bridge.protocol.descriptor import DeviceDescriptor
from firmware_bridge.protocol.profile import ALL_ELECTRODES_ON, NO_FLAGS, Contact, FrameFlag
from lsemvae.ecg.record import record_from_physical
from lsemvae.terminal.strip import StripStyle
from tests.radio.stall import LIMIT_S, StallDetector

FS_HZ = 500
WINDOW = 4 * FS_HZ
DESCRIPTOR = DeviceDescriptor(leads=("I", "II"), fs_mhz=FS_HZ * 1000, lsb_pv=48_100, range_uv=400_000)


def _codes(start: int, stop: int) -> np.ndarray:
    index = np.arange(start, stop, dtype=np.int32)
    return np.stack([index, -index])


def _window(*spans: tuple[int, int], again: bool = False) -> SignalWindow:
    window = SignalWindow(("I", "II"), fs_hz=FS_HZ, lsb_uv=1000.0)
    for start, stop in spans:
        window.put(_codes(start, stop), t0=start, again=again)
    return window


def _shown(window: SignalWindow, lead: str = "I") -> np.ndarray:
    """Indices of the samples on the screen, NaN where blank: each code is its index, one code is 1 mV."""
    row = window.lead_mv(lead)
    return row - np.nanmax(row)


def test_the_newest_four_seconds_are_shown() -> None:
    shown = _shown(_window(*((i, i + 25) for i in range(0, 5000, 25))))
    np.testing.assert_array_equal(shown, np.arange(WINDOW) - (WINDOW - 1))


def test_what_was_not_received_stays_blank() -> None:
    shown = _shown(_window((0, 100), (150, 200)))
    assert np.isnan(shown[-100:-50]).all()
    np.testing.assert_array_equal(shown[-50:], np.arange(50) - 49)
    np.testing.assert_array_equal(shown[-200:-100], np.arange(100) - 199)


def test_a_late_frame_fills_its_gap() -> None:
    window = _window((0, 100), (150, 200), (100, 150))
    np.testing.assert_array_equal(_shown(window)[-200:], np.arange(200) - 199)


def test_a_retransmission_older_than_the_window_changes_nothing() -> None:
    window = _window((10_000, 10_100))
    before = window.lead_mv("I")
    window.put(_codes(0, 25), t0=0, again=True)
    np.testing.assert_array_equal(window.lead_mv("I"), before)


def test_a_device_that_counts_anew_begins_a_new_picture() -> None:
    window = _window((10_000, 12_000), (0, 25))
    shown = window.lead_mv("II")
    assert np.isfinite(shown).sum() == 25


def test_a_frame_across_the_edge_of_the_window_is_cut() -> None:
    window = _window((5_000, 5_025))
    window.put(_codes(5_025 - WINDOW - 10, 5_025 - WINDOW + 15), t0=5_025 - WINDOW - 10)
    assert np.isfinite(window.lead_mv("I")).sum() == 25 + 15


@pytest.mark.parametrize(
    ("contact", "text"),
    [
        (ALL_ELECTRODES_ON, "all on"),
        (Contact.LA_OFF, "LA off"),
        (Contact.RA_OFF | Contact.SATURATED_2, "RA off, second channel saturated"),
    ],
)
def test_contact_in_words(contact: Contact, text: str) -> None:
    assert contact_text(contact) == text


def _progress(**changes: object) -> Progress:
    values = {
        "elapsed_s": 6.0, "received_s": 6.0, "target_s": 30.0, "contact": ALL_ELECTRODES_ON, "connected": True,
        "battery_percent": 80,
    }  # fmt: skip
    return Progress(**{**values, **changes})  # type: ignore[arg-type]


def _printed(view: LiveView, progress: Progress, *, unicode: bool = True, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(view.picture(progress, style=StripStyle(width=width, unicode=unicode)))
    return out.getvalue()


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> LiveView:
    """A view on a terminal that is never drawn to."""
    view = LiveView("bench device", plain=False)

    class Screen:
        def update(self, _picture: object, *, refresh: bool) -> None:
            assert refresh

        def stop(self) -> None: ...

    monkeypatch.setattr(view, "_live", Screen())
    return view


@pytest.mark.parametrize("unicode", [True, False])
def test_the_picture_fits_a_small_terminal(view: LiveView, *, unicode: bool) -> None:
    for start in range(0, 3000, 25):
        view.on_frame(LiveFrame(samples=_codes(start, start + 25), t0=start), DESCRIPTOR)
    text = _printed(view, _progress(connected=False, silent_s=4.0), unicode=unicode)
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "bench device" in text
    assert "6.0 of 30.0 s" in text
    assert f"lead I, {4.0 if unicode else 2.8} s" in text
    assert f"lead II, {4.0 if unicode else 2.8} s" in text
    assert "no connection for 4 s" in text
    assert text.isascii() is not unicode


def test_missing_signal_is_told(view: LiveView) -> None:
    assert "missing" not in _printed(view, _progress())
    assert "0.50 s missing" in _printed(view, _progress(received_s=5.5))


def test_a_calibration_pulse_is_not_drawn_as_ecg(view: LiveView) -> None:
    view.on_frame(LiveFrame(samples=_codes(0, 25), t0=0, flags=FrameFlag.CALIBRATION), DESCRIPTOR)
    assert "lead I" not in _printed(view, _progress())
    view.on_frame(LiveFrame(samples=_codes(0, 25), t0=0, flags=NO_FLAGS), DESCRIPTOR)
    assert "lead I" in _printed(view, _progress())


def test_without_a_terminal_a_line_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveView("bench device", plain=True) as view:
        for elapsed_s in (0.1, 0.6, 1.1, 1.6, 2.1):
            view.on_progress(_progress(elapsed_s=elapsed_s, contact=Contact.LL_OFF))
        view.on_progress(_progress(elapsed_s=2.1, connected=False, silent_s=3.2))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0].endswith("0.1 of 30.0 s, contact: LL off")
    assert lines[3].endswith("no connection for 3 s, trying again")


def _bare(elapsed_s: float) -> Progress:
    """What a device of another maker lets be told: how far the recording is, and nothing of electrodes and battery."""
    return Progress(
        elapsed_s=elapsed_s, received_s=elapsed_s, target_s=10.0, contact=None, connected=True, battery_percent=None
    )


def test_a_device_that_says_only_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveView("bench device", plain=True) as view:
        for done_s in (0.2, 0.7, 1.3):
            view.on_progress(_bare(done_s))
    assert capsys.readouterr().err.splitlines() == ["recording  0.2 of 10.0 s", "recording  1.3 of 10.0 s"]


def test_nothing_is_said_of_electrodes_that_nobody_asked_after() -> None:
    screen = io.StringIO()
    Console(file=screen, width=100).print(LiveView("bench device", plain=True).picture(_bare(1.3), style=StripStyle()))
    assert "1.3 of 10.0 s" in screen.getvalue()
    assert "contact" not in screen.getvalue()
    assert "battery" not in screen.getvalue()


@pytest.mark.slow
def test_drawing_never_keeps_the_event_loop_from_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of ten seconds, drawn on a terminal of 120 x 40 characters."""
    rng = np.random.default_rng(2)
    ecg = record_from_physical(
        np.cumsum(rng.normal(0, 5, (2, 5000)), axis=1), unit="uV", fs_hz=FS_HZ, leads=("I", "II")
    )
    screen = io.StringIO()
    monkeypatch.setattr("edge_app.commands.live_view.strip_style", lambda: StripStyle(width=120))
    monkeypatch.setattr(
        "rich.console.Console", lambda **_: Console(file=screen, force_terminal=True, width=120, height=40)
    )

    async def session() -> tuple[float, int]:
        with LiveView("bench device", plain=False) as view:
            async with StallDetector() as detector:
                result = await record_session(
                    InProcessTransport(ecg, speed=5.0), seconds=10.0, allow_unauthenticated=True,
                    on_progress=view.on_progress, on_frame=view.on_frame,
                )  # fmt: skip
        return detector.worst_s, result.statistics.missing_samples

    worst_s, missing = asyncio.run(session())
    assert screen.getvalue().count("lead II, 4.0 s") >= 5
    assert missing == 0
    assert worst_s <= LIMIT_S
