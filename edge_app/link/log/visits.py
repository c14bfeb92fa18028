"""The connections in a notification log, and which reply answers which request."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from edge_app.link.log.file import LogEntry
from firmware_bridge.protocol.control import REPLY_BIT

# Where the connect line itself was lost: what nearly every link agrees on.
USUAL_MTU: Final = 247
_ENDS: Final = frozenset(("lost", "disconnect"))


@dataclass(slots=True)
class LogVisit:
    """One connection of the log.

    Attributes
    ----------
    answers
        Positions of replies that belong to a request of this visit.
    asked
        By operation: whether each request was answered, in order.
    """

    mtu: int = USUAL_MTU
    failed: bool = False
    entries: list[LogEntry] = field(default_factory=list)
    answers: set[int] = field(default_factory=set)
    asked: dict[int, deque[bool]] = field(default_factory=lambda: defaultdict(deque))


def visits_of(entries: Iterable[LogEntry]) -> list[LogVisit]:
    """The connections of a log; one whose connect line is damaged begins with its first line."""
    visits: list[LogVisit] = []
    open_visit = False
    for entry in entries:
        if entry.channel == "connect_failed":
            visits.append(LogVisit(failed=True))
            open_visit = False
        elif entry.channel == "connect" or not open_visit:
            visits.append(LogVisit(mtu=entry.mtu or USUAL_MTU))
            open_visit = True
        if open_visit and entry.channel != "connect":
            visits[-1].entries.append(entry)
            open_visit = entry.channel not in _ENDS
    for visit in visits:
        _pair(visit)
    return visits


def _pair(visit: LogVisit) -> None:
    """Find the reply to each request by operation and transaction number."""
    requests: dict[tuple[int, int], int] = {}
    answered: list[tuple[int, bool]] = []
    for position, entry in enumerate(visit.entries):
        if len(entry.data) < 2:
            continue
        key = (entry.data[0] & ~REPLY_BIT, entry.data[1])
        if entry.channel == "request":
            requests[key] = len(answered)
            answered.append((key[0], False))
        elif entry.channel == "control" and entry.data[0] & REPLY_BIT and key in requests:
            answered[requests.pop(key)] = (key[0], True)
            visit.answers.add(position)
    for op, was_answered in answered:
        visit.asked[op].append(was_answered)
