"""One connection to a device: requests with replies, notifications handed on, and a flag when the link is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

from edge_app.link.base import LinkInfo, Transport
from edge_app.link.bounded import within
from firmware_bridge.protocol.control import REFUSAL_ADVICE, Reply, Request, decode_reply
from firmware_bridge.protocol.descriptor import DeviceDescriptor, decode_descriptor
from firmware_bridge.protocol.profile import Feature, Op, ReplyStatus
from firmware_bridge.protocol.status import DeviceStatus, decode_status
from lsemvae.ecg.errors import EcgError, LinkError, ProtocolError

_LOGGER = logging.getLogger(__name__)

# A device answers within one or two connection intervals (15-30 ms each); the supervision time-out of the link is 4 s.
REPLY_TIMEOUT_S: Final = 5.0

# A disconnect takes as long as a supervision time-out at most; a radio service that hangs must not keep a recording.
CLOSE_TIMEOUT_S: Final = 10.0

_T = TypeVar("_T")


class Origin(Enum):
    """Where received bytes came from."""

    DESCRIPTOR = "descriptor"
    LIVE = "live"
    CONTROL = "control"
    STATUS = "status"
    BULK = "bulk"


OnBytes = Callable[[Origin, bytes], None]


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection that is ready for START.

    Attributes
    ----------
    descriptor_bytes
        The descriptor as it was read over this connection: what a device signs when it authenticates itself.
    """

    info: LinkInfo
    descriptor: DeviceDescriptor
    descriptor_bytes: bytes
    status: DeviceStatus


class DeviceClient:
    """One connection, from `open` to `close`; a new connection needs a new client.

    Live and bulk frames are dropped until `admit`: nobody knows before whose they are.

    Parameters
    ----------
    on_bytes
        Called with everything that the device sends, before anything is made of it.
    on_lost
        Called once when an established link is gone.
    """

    def __init__(self, transport: Transport, *, on_bytes: OnBytes, on_lost: Callable[[str], None]) -> None:
        self._transport = transport
        self._on_bytes = on_bytes
        self._on_lost = on_lost
        self._txn = 0
        self._pending: dict[int, asyncio.Future[Reply]] = {}
        self._admitted = False
        self.lost = False

    async def open(self) -> Opened:
        """Connect, read what the device says about itself, subscribe."""
        self._transport.on_disconnect(self._link_lost)
        info = await self._transport.connect()
        raw, descriptor = await _twice(self._transport.read_descriptor, decode_descriptor)
        self._on_bytes(Origin.DESCRIPTOR, raw)
        _, status = await _twice(self._transport.read_status, decode_status)
        await self._transport.subscribe(
            on_live=lambda data: self._samples(Origin.LIVE, data),
            on_control=self._control,
            on_status=lambda data: self._on_bytes(Origin.STATUS, bytes(data)),
            # A device without recordings may lack the bulk characteristic.
            on_bulk=(lambda data: self._samples(Origin.BULK, data)) if descriptor.features & Feature.RECORD else None,
        )
        return Opened(info=info, descriptor=descriptor, descriptor_bytes=raw, status=status)

    def admit(self) -> None:
        """Take samples from here on: the device is the one it should be."""
        self._admitted = True

    async def close(self) -> None:
        """Disconnect, always: an unclosed connection doubles every later notification on BlueZ."""
        self._transport.on_disconnect(None)
        self.lost = True
        self._admitted = False
        self._fail_pending("the connection was closed")
        try:
            await within(CLOSE_TIMEOUT_S, self._transport.disconnect())
        except EcgError:
            pass
        except Exception:  # a radio that is gone cannot even be told good-bye; what was received counts for more
            _LOGGER.warning("disconnecting failed", exc_info=True)

    async def request(self, op: Op, params: bytes = b"") -> Reply:
        """Send a request and return its reply, whatever its status; `LinkError` if none comes."""
        if self.lost:
            raise LinkError(f"{op.name}: found no connection, expected one")
        txn = self._txn = (self._txn + 1) & 0xFF
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending[txn] = reply
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                await self._transport.write_control(Request(op=op, txn=txn, params=params).to_bytes())
                return await reply
        except TimeoutError:
            raise LinkError(f"{op.name}: found no reply, expected one within {REPLY_TIMEOUT_S:g} s") from None
        finally:
            self._pending.pop(txn, None)

    async def command(self, op: Op, params: bytes = b"") -> Reply:
        """Send a request that must succeed; `ProtocolError` with advice if the device refuses."""
        return self.accepted(await self.request(op, params))

    def accepted(self, reply: Reply) -> Reply:
        """Return the reply itself, if its status is OK."""
        if reply.status is not ReplyStatus.OK:
            message = f"{reply.op.name}: found {reply.status.name} from the device, expected OK"
            raise ProtocolError(message, advice=REFUSAL_ADVICE[reply.status])
        return reply

    def _samples(self, source: Origin, data: bytes) -> None:
        if self._admitted:
            self._on_bytes(source, bytes(data))

    def _control(self, data: bytes) -> None:
        self._on_bytes(Origin.CONTROL, bytes(data))
        try:
            reply = decode_reply(data)
        except ProtocolError as exc:
            _LOGGER.warning("reply ignored: %s", exc)
            return
        waiting = self._pending.get(reply.txn)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def _link_lost(self, reason: str) -> None:
        if self.lost:
            return
        self.lost = True
        self._fail_pending(reason)
        self._on_lost(reason)

    def _fail_pending(self, reason: str) -> None:
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(LinkError(f"connection lost: {reason}"))


async def _twice(read: Callable[[], Awaitable[bytes]], decode: Callable[[bytes], _T]) -> tuple[bytes, _T]:
    """Read a value and decode it; a wire may damage one packet, a device that speaks another version says so again."""
    raw = bytes(await read())
    try:
        return raw, decode(raw)
    except ProtocolError as exc:
        _LOGGER.info("read again: %s", exc)
        raw = bytes(await read())
        return raw, decode(raw)
