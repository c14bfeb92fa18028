"""A device through its driver over the test radio: real bleak, a private D-Bus, our own org.bluez."""

from __future__ import annotations

import asyncio

from edge_app.link.ble.port import GattPort
from edge_app.session.driver import record_driver
from firmware_bridge.drivers import catalogue


def test_the_own_profile_through_its_driver_gives_the_source_sample_by_sample(radio, equals_source):
    radio("--speed", "2", "--faults", '{"drop": 0.05, "corrupt": 0.03}')
    driver = catalogue["e6l"]()
    result = asyncio.run(record_driver(driver, over=GattPort(driver.info, scan_s=5), seconds=3))
    assert result.complete, result.events
    assert result.record.n_samples == 1500
    assert result.record.source.driver == "e6l"
    equals_source(result.record)
