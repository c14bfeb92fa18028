"""Drivers of devices: each turns one device's bytes into an `EcgRecord` that says what it cannot know.

>>> from firmware_bridge.drivers import catalogue
>>> driver = catalogue["protocentral-ads1293"]()
>>> driver.info.quality.calibrated
False
"""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from firmware_bridge.drivers.base import Driver, DriverInfo, DriverStatistics, QualityInfo
from firmware_bridge.drivers.e6l import E6lDriver
from firmware_bridge.drivers.hativ import HativDriver
from firmware_bridge.drivers.movesense import MovesenseDriver
from firmware_bridge.drivers.polar import PolarH10Driver
from firmware_bridge.drivers.protocentral import Ads1292rDriver, Ads1293Driver
from firmware_bridge.drivers.viatom import ViatomDriver
from firmware_bridge.drivers.viatom_er3 import ViatomEr3Driver
from lsemvae.ecg.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Driver", "DriverInfo", "DriverStatistics", "QualityInfo", "catalogue", "make", "recognise"]

# Each takes ``lsb_uv: float | None = None`` and options of its own, by keyword.
catalogue: Final[Mapping[str, Callable[..., Driver]]] = MappingProxyType(
    {
        "e6l": E6lDriver,
        "protocentral-ads1293": Ads1293Driver,
        "protocentral-ads1292r": Ads1292rDriver,
        "viatom": ViatomDriver,
        "viatom-er3": ViatomEr3Driver,
        "hativ": HativDriver,
        "polar-h10": PolarH10Driver,
        "movesense": MovesenseDriver,
    }
)


def make(name: str, *, lsb_uv: float | None = None, **options: object) -> Driver:
    """Return a driver by its name in the catalogue; an unknown name is an error that lists the known ones."""
    if name not in catalogue:
        raise FormatError(
            f"found driver {name!r}, expected one of {', '.join(catalogue)}",
            advice="Choose a driver from the list; docs/reference/devices.md says which device needs which.",
        )
    return catalogue[name](lsb_uv=lsb_uv, **options)


@cache
def _infos() -> tuple[DriverInfo, ...]:
    return tuple(factory().info for factory in catalogue.values())


def recognise(*, name: str = "", services: tuple[str, ...] = ()) -> str | None:
    """Return the name of the driver for an advertisement, or None.

    A name decides before a service: several devices of a maker share one service.
    """
    by_name = [info.name for info in _infos() if info.recognises(name=name)]
    by_service = [info.name for info in _infos() if info.recognises(services=services)]
    return next(iter(by_name + by_service), None)
