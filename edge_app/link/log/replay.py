"""Replay of a notification log: a session runs against what a device once sent.

Notifications come at their old pace. A reply is held until the host has asked, and carries the number of its request,
so a host that asks a little earlier or later than the first time gets the same answers and the same record. What a log
cannot give: a proof of the device's key (the challenge differs each time, so a replay is never authenticated), and the
length of a gap that only the host's clock measured (a device that was switched off and on).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_app.link.base import LinkInfo, Listening
from edge_app.link.log.file import LogEntry, NotificationLog, read_log
from firmware_bridge.protocol.control import REPLY_BIT
from firmware_bridge.protocol.profile import Op, ReplyStatus
from lsemvae.ecg.errors import FormatError, LinkError

if TYPE_CHECKING:
    from firmware_bridge.drivers.base import Driver

_LOGGER = logging.getLogger(__name__)

# How long a line that needs the host (a reply, a read) waits for it: a host that has not asked by then will not.
_PATIENCE_S: Final = 0.5
_READS: Final = frozenset(("descriptor", "status_read"))
_NOTIFICATIONS: Final = frozenset(("live", "control", "status", "bulk"))
_ENDS: Final = frozenset(("lost", "disconnect"))
# Where the connect line itself was lost: what nearly every link agrees on.
USUAL_MTU: Final = 247
_NOTHING_LEFT: Final = "The recording in this log ends here."


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
    """Return the connections of a log with their answers; one whose connect line is damaged begins with its first line."""
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
        # The reply to each request, by operation and transaction number.
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
    return visits


class ReplayTransport(Listening):
    """A `Transport` to a device that is only a log.

    Parameters
    ----------
    log
        A log, or the file that holds it; its `damaged` lines are left out.
    speed
        Times real time; ``math.inf`` waits for nothing but the host.
    """

    def __init__(self, log: NotificationLog | Path, *, speed: float = 1.0) -> None:
        if not speed > 0:
            raise FormatError(f"replay: found speed {speed}, expected more than 0")
        super().__init__()
        self.log = read_log(log) if isinstance(log, Path) else log
        self._speed = speed
        self._visits = deque(visits_of(self.log.entries))
        if not any(visit.entries for visit in self._visits):
            raise FormatError("log: found no connection, expected at least one", advice=_NOTHING_LEFT)
        self._visit: LogVisit | None = None
        self._ahead: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[bytes]]] = defaultdict(deque)
        self._txns: dict[int, deque[int]] = defaultdict(deque)
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.skipped = 0

    @property
    def mtu(self) -> int:
        """Largest attribute packet of the present connection, bytes."""
        return self._connected().mtu

    async def connect(self) -> LinkInfo:
        """Go to the next connection of the log, or fail as the link did then."""
        await self.disconnect()
        visit = self._visits.popleft() if self._visits else None
        if visit is None:
            raise LinkError("log: found no further connection, expected one", advice=_NOTHING_LEFT)
        if visit.failed:
            raise LinkError("log: found a connection that failed, as it did when the log was written")
        self._visit = visit
        self._ahead = Counter(entry.channel for entry in visit.entries)
        self._task = asyncio.get_running_loop().create_task(self._play(visit), name="replay")
        return LinkInfo(name="replay", address="log", mtu=visit.mtu, kind="replay")

    async def disconnect(self) -> None:
        """Leave the present connection; what the log still holds of it is passed over and counted."""
        task, self._task = self._task, None
        self._end_visit()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def read_descriptor(self) -> bytes:
        """Return the value of the descriptor at this point of the log."""
        return await self._read("descriptor")

    async def read_status(self) -> bytes:
        """Return the value of the status at this point of the log."""
        return await self._read("status_read")

    async def write_control(self, request: bytes) -> None:
        """Answer a request with the log's next reply to the same operation, or refuse where the log holds none."""
        visit = self._connected()
        op, txn = request[0], request[1]
        if not visit.asked[op]:
            asyncio.get_running_loop().call_soon(self._deliver, "control", _without_log(op, txn))
        elif visit.asked[op].popleft():
            self._txns[op].append(txn)
            self._asked.set()

    async def _read(self, channel: str) -> bytes:
        self._connected()
        if len(self._waiting[channel]) >= self._ahead[channel]:
            damaged = ", ".join(str(line.number) for line in self.log.damaged) or "none"
            raise LinkError(f"log: found no {channel} here (damaged lines: {damaged}), expected one")
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[channel].append(answer)
        self._asked.set()
        return await answer

    async def _play(self, visit: LogVisit) -> None:
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        for position, entry in enumerate(visit.entries):
            due_s = begin_s + (entry.t_us - visit.entries[0].t_us) / 1e6 / self._speed
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            before_s = loop.time()
            await self._one(visit, position, entry)
            begin_s += loop.time() - before_s  # the log's clock stands still while it waits for the host
            self._ahead[entry.channel] -= 1
        if self._visit is visit and not (visit.entries and visit.entries[-1].channel == "disconnect"):
            self._lose()  # the log ends without a word: whoever wrote it crashed

    async def _one(self, visit: LogVisit, position: int, entry: LogEntry) -> None:
        if entry.channel in _READS:
            waiting = self._waiting[entry.channel]
            if await self._host_or_patience(lambda: bool(waiting)):
                answer = waiting.popleft()
                if not answer.done():
                    answer.set_result(entry.data)
            else:
                self.skipped += 1
        elif position in visit.answers:
            op = entry.data[0] & ~REPLY_BIT
            if await self._host_or_patience(lambda: bool(self._txns[op])):
                self._deliver("control", bytes((entry.data[0], self._txns[op].popleft())) + entry.data[2:])
                return
            self.skipped += 1
            if True in visit.asked[op]:
                visit.asked[op].remove(True)
        elif entry.channel in _NOTIFICATIONS:
            self._deliver(entry.channel, entry.data)
        elif entry.channel == "disconnect" and self._visits:
            await self._host_or_patience(lambda: False)  # the host gave this connection up, and will again
            self._lose()
        elif entry.channel == "lost":
            self._lose()

    async def _host_or_patience(self, ready: Callable[[], bool]) -> bool:
        """Wait until the host has asked for what comes next; False if it does not."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + _PATIENCE_S
        while not ready():
            self._asked.clear()
            try:
                async with asyncio.timeout_at(deadline_s):
                    await self._asked.wait()
            except TimeoutError:
                return False
        return True

    def _lose(self) -> None:
        if self._visit is None:
            return
        self._end_visit()
        self._tell_lost("the log lost the connection here")

    def _end_visit(self) -> None:
        """End the present connection: deliver nothing more of it, and fail what still waits for it."""
        self.skipped += sum(max(0, self._ahead[channel]) for channel in _NOTIFICATIONS)
        self._visit = None
        self._ahead.clear()
        self._listeners.clear()
        self._txns.clear()
        for waiting in self._waiting.values():
            for answer in waiting:
                if not answer.done():
                    answer.set_exception(LinkError("log: found the end of the connection, expected an answer"))
            waiting.clear()

    def _check_connected(self) -> None:
        self._connected()

    def _connected(self) -> LogVisit:
        if self._visit is None:
            raise LinkError("log: found no connection, expected one")
        return self._visit


def replay_driver(driver: Driver, log: NotificationLog) -> Driver:
    """Feed a driver what a log of it holds, without a clock; return the driver, ready for `to_record`."""
    begun = False
    for entry in log.entries:
        if not begun and entry.channel not in driver.info.read:
            driver.begin()
            begun = True
        if entry.channel != "write":
            driver.poll(entry.t_us)  # what a polled protocol asks for is not sent: the answers are here
            driver.feed(entry.channel, entry.data, entry.t_us)
    return driver


def _without_log(op: int, txn: int) -> bytes:
    """Return a reply that was never logged; a wish for samples again is accepted, and brings what the log brings anyway."""
    known = {Op.RETRANSMIT: ReplyStatus.OK, Op.AUTHENTICATE: ReplyStatus.NOT_AUTHENTICATED}
    status = known.get(Op(op), ReplyStatus.NO_STREAM) if op in tuple(Op) else ReplyStatus.BAD_OP
    return bytes((REPLY_BIT | op, txn, status))
