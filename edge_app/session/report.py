"""A finished recording in words and in plain values, for the commands that show one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from edge_app.session.events import SessionEvent, SessionResult
    from lsemvae.ecg.source import SourceInfo

# Events of a recording (by their text) that an operator is told even if nobody asked for details.
_TOLD: Final = frozenset(
    {"gave_up", "restarted", "ended_by_device", "evicted", "spool_failed", "fault", "drift", "unauthenticated"}
)


def session_dict(session: SessionResult) -> dict[str, Any]:
    """Return the figures and events of a session."""
    statistics = session.statistics
    return {
        "complete": session.complete,
        "elapsed_samples": statistics.elapsed_samples,
        "received_samples": statistics.received_samples,
        "missing_samples": statistics.missing_samples,
        "missing_before_repair": statistics.missing_before_repair,
        "reconnects": statistics.reconnects,
        "restarts": statistics.restarts,
        "corrupt_frames": statistics.assembly.corrupt,
        "authenticated": session.record.source.authenticated,
        "drift_ppm": statistics.drift_ppm,
        "events": [
            {"t_s": round(event.t_s, 3), "kind": event.kind.value, "message": event.message} for event in session.events
        ],
    }


def remarks(events: tuple[SessionEvent, ...], *, played: bool = False) -> list[str]:
    """Return what an operator should know of how a recording went; of a device that was `played`, no word on its key."""
    told = _TOLD - {"unauthenticated"} if played else _TOLD
    return [f"Note: {event.message}" for event in events if event.kind in told]


def describe_link(session: SessionResult) -> str:
    """Return in one line how the link did."""
    statistics = session.statistics
    fs_hz = session.record.fs_hz
    repaired = statistics.missing_before_repair - statistics.missing_samples
    parts = [
        f"{statistics.received_samples} of {statistics.elapsed_samples} samples",
        f"{repaired} of them asked for again at the end" if repaired > 0 else "",
        f"{statistics.missing_samples / fs_hz:.2f} s missing" if statistics.missing_samples else "nothing missing",
        f"{statistics.assembly.corrupt} damaged packets refused" if statistics.assembly.corrupt else "",
        _count(statistics.reconnects, "reconnect") if statistics.reconnects else "",
        _count(statistics.restarts, "restart") + " of the device" if statistics.restarts else "",
        f"clock {statistics.drift_ppm:+.0f} ppm" if statistics.drift_ppm is not None else "",
    ]
    return f"Link: {', '.join(part for part in parts if part)}"


def describe_source(source: SourceInfo) -> str:
    """Return in one line what is known of where a recording comes from, and what its source cannot know."""
    proof = {True: "the device proved its key", False: "THE DEVICE PROVED NO KEY", None: "such devices prove no key"}
    unknown = [
        text
        for text, known in (
            ("lost samples would not show", source.gap_detectable),
            ("the scale is unknown", source.calibrated),
            ("the device keeps no time", source.timestamped),
        )
        if not known
    ]
    return f"Source: driver {source.driver or 'none'}, {'; '.join([proof[source.authenticated], *unknown])}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
