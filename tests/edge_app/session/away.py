"""A virtual device that goes out of reach and comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_app.link.base import LinkInfo
from edge_app.link.inprocess import InProcessTransport
from lsemvae.ecg.errors import LinkError


class AwayTransport(InProcessTransport):
    """A device that is out of reach for some attempts after its link was lost; `on_return` runs when it is back."""

    def __init__(
        self, *args: Any, attempts: int, on_return: Callable[[AwayTransport], None] | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._away = attempts
        self._on_return = on_return
        self._lost = False

    async def drop(self) -> None:
        self._lost = True
        await super().drop()

    async def connect(self) -> LinkInfo:
        if self._lost and self._away:
            self._away -= 1
            raise LinkError("found no device, expected one")
        if self._lost and self._on_return is not None:
            self._on_return(self)
        self._lost = False
        return await super().connect()
