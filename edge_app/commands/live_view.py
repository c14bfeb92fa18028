"""What a person sees while a device sends: both leads as they come, contact, battery, and what is missing.

On a terminal a view that is drawn in place; anywhere else a line a second. Nothing is judged here: the quality gate sees
the whole recording at its end.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.protocol.profile import Contact, FrameFlag
from lsemvae.terminal.console import say_progress, strip_style
from lsemvae.terminal.strip import StripStyle, render_strip, seconds_per_row

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from edge_app.session.events import Progress, Watch
    from firmware_bridge.protocol.codec import LiveFrame
    from firmware_bridge.protocol.descriptor import DeviceDescriptor

# About four heartbeats a row, and rows that leave room for both leads on 24 lines.
WINDOW_S: Final = 4.0
_ROWS: Final = 6
_MIN_WIDTH: Final = 40
_BAR_WIDTH: Final = 24

# Drawing takes some milliseconds on a board: five times a second keeps the loop free for the radio.
_REFRESH_S: Final = 0.2

_CONTACTS: Final = {
    Contact.RA_OFF: "RA off",
    Contact.LA_OFF: "LA off",
    Contact.LL_OFF: "LL off",
    Contact.RL_OFF: "RL off",
    Contact.SATURATED_1: "first channel saturated",
    Contact.SATURATED_2: "second channel saturated",
}


def contact_text(contact: Contact) -> str:
    """Return the electrodes that are off and the channels that are saturated, or "all on"."""
    return ", ".join(text for flag, text in _CONTACTS.items() if contact & flag) or "all on"


class SignalWindow:
    """The newest seconds of each lead, in mV; what was not received stays blank.

    Parameters
    ----------
    leads, fs_hz, lsb_uv
        As the device describes them.
    """

    def __init__(self, leads: tuple[str, ...], *, fs_hz: float, lsb_uv: float) -> None:
        self.leads = leads
        self.fs_hz = fs_hz
        self._lsb_uv = lsb_uv
        self._size = max(1, round(WINDOW_S * fs_hz))
        self._signal_mv = np.full((len(leads), self._size), np.nan)
        self._end: int | None = None

    def put(self, samples: NDArray[np.int32], *, t0: int, again: bool = False) -> None:
        """Take codes ``[lead, time]`` whose first sample has index `t0`; `again` marks a retransmission."""
        n = samples.shape[1]
        if self._end is not None and not -self._size - n < t0 - self._end < self._size:
            if again:
                return  # older than what is shown
            self._end = None
        if self._end is None:
            self._signal_mv[:] = np.nan  # the first frame, or a device that counts anew
            self._end = t0 + n
        elif t0 + n > self._end:
            shift = t0 + n - self._end
            self._signal_mv = np.roll(self._signal_mv, -shift, axis=1)
            self._signal_mv[:, max(0, self._size - shift) :] = np.nan
            self._end += shift
        start = self._size - (self._end - t0)
        kept = samples[:, max(0, -start) :]
        start = max(0, start)
        self._signal_mv[:, start : start + kept.shape[1]] = kept[:, : self._size - start] * self._lsb_uv / 1000.0

    def lead_mv(self, lead: str) -> NDArray[np.floating]:
        """Return the samples of a lead in mV around their median: the electrodes' offset is no signal."""
        row: NDArray[np.floating] = self._signal_mv[self.leads.index(lead)].copy()
        seen = row[np.isfinite(row)]
        row -= float(np.median(seen)) if seen.size else 0.0
        return row


class LiveView:
    """Shows a recording while it is made; a context manager, and the observer of a session.

    Parameters
    ----------
    title
        First line.
    plain
        Lines instead of a view; the default where standard error is no terminal.
    """

    def __init__(self, title: str, *, plain: bool | None = None) -> None:
        self._title = title
        self._plain = not sys.stderr.isatty() if plain is None else plain
        self._window: SignalWindow | None = None
        self._live: Live | None = None
        self._style = StripStyle()
        self._drawn_s = 0.0
        self._last = (-1, 0)

    def __enter__(self) -> Self:
        if not self._plain:
            from rich.console import Console
            from rich.live import Live

            self._style = strip_style()  # before standard output is redirected: its encoding decides
            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def watch(self) -> Watch:
        """The view as an observer of a recording."""
        from edge_app.session.events import Watch

        return Watch(on_progress=self.on_progress, on_frame=self.on_frame)

    def on_frame(self, frame: LiveFrame, descriptor: DeviceDescriptor) -> None:
        """Take a frame."""
        if self._live is None or frame.flags & FrameFlag.CALIBRATION:
            return  # a pulse is no ECG
        if self._window is None or self._window.leads != descriptor.leads:
            self._window = SignalWindow(descriptor.leads, fs_hz=descriptor.fs_hz, lsb_uv=descriptor.lsb_uv)
        self._window.put(frame.samples, t0=frame.t0, again=bool(frame.flags & FrameFlag.RETRANSMITTED))

    def on_progress(self, progress: Progress) -> None:
        """Draw anew, if it is time; where there is no terminal, a line for each second."""
        now_s = time.monotonic()
        if self._live is None:
            second = (int(progress.elapsed_s), 0 if progress.connected else int(progress.silent_s))
            if second == self._last or not (progress.connected or second[1]):
                return
            self._last = second
            state = f", contact: {contact_text(progress.contact)}" if progress.contact else ""
            state = state if progress.connected else f", no connection for {second[1]} s, trying again"
            say_progress(f"recording {progress.elapsed_s:4.1f} of {progress.target_s:.1f} s{state}")
        elif now_s - self._drawn_s >= _REFRESH_S:
            self._drawn_s = now_s
            self._live.update(self.picture(progress, style=self._style), refresh=True)

    def picture(self, progress: Progress, *, style: StripStyle) -> RenderableType:
        """Return what is on the screen: head, one strip for each lead, state of the link."""
        from rich.console import Group
        from rich.text import Text

        done = min(1.0, progress.elapsed_s / progress.target_s) if progress.target_s else 0.0
        full = round(done * _BAR_WIDTH)
        bar = ("\u2588" * full).ljust(_BAR_WIDTH, "\u2591") if style.unicode else ("#" * full).ljust(_BAR_WIDTH, ".")
        missing_s = max(0.0, progress.elapsed_s - progress.received_s)
        missing = f", {missing_s:.2f} s missing (asked for again)" if missing_s > 0 else ""
        parts: list[Any] = [
            Text(self._title, style="bold"),
            Text(f"{bar} {progress.elapsed_s:5.1f} of {progress.target_s:.1f} s{missing}"),
        ]
        if progress.contact is not None:
            battery = "unknown" if progress.battery_percent is None else f"{progress.battery_percent} %"
            state = f"contact: {contact_text(progress.contact)}   battery: {battery}"
            parts.append(Text(state, style="yellow" if progress.contact else ""))
        if not progress.connected:
            parts.append(Text(f"no connection for {progress.silent_s:.0f} s, trying again", style="bold red"))
        row = StripStyle(width=max(_MIN_WIDTH, style.width - 1), height=_ROWS, unicode=style.unicode)
        if (window := self._window) is not None:
            n_shown = int(seconds_per_row(row) * window.fs_hz)  # the newest that fits
            for lead in window.leads:
                strip = render_strip(window.lead_mv(lead)[-n_shown:], fs_hz=window.fs_hz, lead=lead, style=row)
                parts.append(Text(strip, no_wrap=True, overflow="crop"))
        return Group(*parts)
