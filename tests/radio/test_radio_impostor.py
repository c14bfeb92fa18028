"""Another device under the name and address of the right one: never recorded, whatever it says about itself."""

from __future__ import annotations

import pytest

from edge_app.link.ble.transport import BleTransport
from edge_app.session import SessionResult, record_session
from firmware_bridge.protocol.authenticity import DeviceKey
from lsemvae.ecg.errors import EcgError

ADDRESS = "F1:F2:F3:F4:F5:F6"
SCAN_S = 5.0
CODE = "E_DEVICE_NOT_AUTHENTICATED"
OTHER = DeviceKey(name="E6L-0001", secret=bytes(32))


def said(result: SessionResult) -> str:
    return "\n".join(event.message for event in result.events)


def streams(running) -> list[dict]:
    running.report()
    return [event for event in running.events if event["event"] == "stream"]


@pytest.mark.promise(134)
@pytest.mark.parametrize(
    ("options", "advice"),
    [(("--key", OTHER.to_text()), "Do not use this device"), ((), "a code on its case")],
    ids=["another key", "no key"],
)
def test_a_device_that_is_not_ours_is_refused_before_a_sample_is_asked_for(
    radio, device_key, run_unstalled, options, advice
):
    running = radio(*options)
    with pytest.raises(EcgError) as caught:
        run_unstalled(record_session(BleTransport(address=ADDRESS, scan_s=SCAN_S), seconds=4, keys=(device_key,)))
    assert caught.value.code == CODE
    assert advice in caught.value.advice
    assert not streams(running)


def test_a_device_whose_key_is_known_is_recorded_as_authenticated(radio, device_key, equals_source, run_unstalled):
    radio("--speed", "10", "--key", device_key.to_text())
    result = run_unstalled(
        record_session(BleTransport(address=ADDRESS, scan_s=SCAN_S), seconds=4, keys=(OTHER, device_key))
    )
    assert result.complete
    assert result.record.source.authenticated is True
    equals_source(result.record)


def test_a_device_without_proof_is_recorded_where_that_is_allowed_and_marked(radio, equals_source, run_unstalled):
    radio("--speed", "10")
    result = run_unstalled(
        record_session(BleTransport(address=ADDRESS, scan_s=SCAN_S), seconds=4, allow_unauthenticated=True)
    )
    assert result.complete
    assert result.record.source.authenticated is False
    equals_source(result.record)


@pytest.mark.promise(135)
@pytest.mark.parametrize(
    ("kind", "allowed"), [("on", False), ("nokey", False), ("nokey", True)],
    ids=["another key", "no key", "no key, unauthenticated allowed"],
)  # fmt: skip
def test_an_impostor_that_takes_over_is_refused_and_what_was_recorded_stays(
    radio, device_key, equals_source, run_unstalled, kind, allowed
):
    """Even where unauthenticated devices are allowed: this one takes the place of a device that proved itself."""
    running = radio("--speed", "10", "--key", device_key.to_text())
    told = []

    def watch(progress):
        if progress.elapsed_s >= 4 and not told:
            told.append(kind)
            running.tell(f"impostor {kind}")

    session = record_session(
        BleTransport(address=ADDRESS, scan_s=SCAN_S), seconds=20, keys=(device_key,), allow_unauthenticated=allowed,
        on_progress=watch, reconnect_for_s=4,
    )  # fmt: skip
    result = run_unstalled(session)
    assert not any(stream.get("impostor") for stream in streams(running))
    assert CODE in said(result)
    assert not result.complete
    assert 4 * 500 <= result.statistics.received_samples < 20 * 500
    assert result.record.source.authenticated is True
    equals_source(result.record)
