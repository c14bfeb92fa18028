"""A device whose limb leads cannot be what it calls them: seen here, and never screened as NOT DETECTED."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_app.demo import demo_recording
from firmware_bridge.assembly.einthoven import LIMIT_UV, check_limb_relations
from firmware_bridge.assembly.recording import Recording
from firmware_bridge.protocol.checksum import with_crc
from firmware_bridge.protocol.codec import LiveFrame, encode_frame
from firmware_bridge.protocol.descriptor import DescriptorError, DeviceDescriptor, decode_descriptor, encode_descriptor
from firmware_bridge.protocol.profile import Contact
from lsemvae.ecg import assess
from lsemvae.ecg.decision import Outcome
from lsemvae.ecg.errors import LeadError, SampleError
from lsemvae.ecg.leads import LIMB_LEADS, derive_limb_leads
from lsemvae.ecg.reasons import Reason
from lsemvae.screen.screener import Screener, open_screener

LSB_UV = 0.0481
CLAIMED = ("I", "II", "III", "aVF")


def descriptor(leads: tuple[str, ...]) -> DeviceDescriptor:
    return DeviceDescriptor(leads=leads, fs_mhz=500_000, lsb_pv=48_100, range_uv=403_000)


@pytest.fixture(scope="module")
def limb_uv() -> np.ndarray:
    """Six limb leads ``[lead, time]`` of a real recording, 500 Hz, 10 s."""
    record = demo_recording()
    two = (record.samples * record.lsb_uv)[[record.leads.index("I"), record.leads.index("II")]]
    step = round(record.fs_hz / 500)
    return derive_limb_leads(*two[:, ::step])


@pytest.fixture(scope="module")
def screener() -> Screener:
    return open_screener()


def claim(limb_uv: np.ndarray, leads: tuple[str, ...], **instead: np.ndarray) -> Recording:
    """What a device sends that calls its channels `leads`; `instead` puts other signals in places of true ones."""
    rows = [instead[lead] if lead in instead else limb_uv[LIMB_LEADS.index(lead)] for lead in leads]
    offsets = np.arange(len(leads))[:, None] * 40_000  # channels have electrode offsets of their own
    codes = np.rint(np.stack(rows) / LSB_UV).astype(np.int32) + offsets
    recording = Recording()
    recording.begin(descriptor(leads))
    for first in range(0, codes.shape[1], 20):
        frame = LiveFrame(samples=codes[:, first : first + 20], t0=first)
        assert recording.feed_bytes(encode_frame(frame)) is not None
    return recording


@pytest.mark.parametrize("leads", [("I", "II"), ("I", "II", "III"), CLAIMED, ("aVR", "III", "aVL", "II"), ("I", "V2")])
def test_a_device_that_names_its_leads_rightly_agrees_within_rounding(limb_uv, leads):
    chest = {"V2": limb_uv[0] * 3}
    check = claim(limb_uv, leads, **chest).limb_check()
    assert check.worst_uv < 1
    assert check.ok
    assert check.n_samples == limb_uv.shape[1]
    check.require()


def test_the_residual_of_iii_is_iii_less_ii_less_i(limb_uv):
    wrong = limb_uv[2] + 120 * np.sin(np.arange(limb_uv.shape[1]) / 9)
    check = claim(limb_uv, ("I", "II", "III"), III=wrong).limb_check()
    assert check.residual_uv[check.leads.index("III")] == pytest.approx(120 / np.sqrt(2), rel=0.01)
    with pytest.raises(LeadError, match=r"found \w+ \d+ uV rms .*expected at most 50 uV") as caught:
        check.require()
    assert "do not use it" in caught.value.advice


@settings(max_examples=60, deadline=None)
@given(
    leads=st.permutations(LIMB_LEADS).map(lambda order: tuple(order[:4])),
    wrong=st.integers(0, 3),
    size_uv=st.sampled_from([40.0, 65.0, 300.0]),
)
def test_any_lead_that_breaks_the_relations_by_more_than_50_uv_rms_is_found(leads, wrong, size_uv):
    rng = np.random.default_rng(1)
    six = derive_limb_leads(*rng.normal(0, 300, (2, 4000)))
    rows = six[[LIMB_LEADS.index(lead) for lead in leads]]
    rows[wrong] += rng.normal(0, size_uv, 4000)
    check = check_limb_relations(np.rint(rows / LSB_UV).astype(np.int32), leads, LSB_UV)
    assert check.residual_uv[wrong] == pytest.approx(size_uv, rel=0.05)
    assert check.ok or size_uv > LIMIT_UV
    assert not check.ok or size_uv < 2 * LIMIT_UV


def test_times_without_contact_are_not_held_against_the_device(limb_uv):
    recording = claim(limb_uv, ("I", "II", "III"))
    swing = np.full((3, 20), 1_000_000, dtype=np.int32) * np.array([[1], [1], [1]], dtype=np.int32)
    n = limb_uv.shape[1]
    recording.feed_bytes(encode_frame(LiveFrame(samples=swing, t0=n, contact=Contact.LA_OFF)))
    assert recording.limb_check().ok
    recording.feed_bytes(encode_frame(LiveFrame(samples=swing, t0=n + 20)))
    assert not recording.limb_check().ok


def test_where_nothing_was_comparable_it_says_so():
    check = check_limb_relations(np.zeros((3, 0), dtype=np.int32), ("I", "II", "III"), LSB_UV)
    assert (check.n_samples, check.worst_uv) == (0, 0.0)
    with pytest.raises(SampleError, match="expected"):
        check_limb_relations(np.zeros((2, 9), dtype=np.int32), ("I", "II", "III"), LSB_UV)


def test_six_leads_do_not_fit_a_descriptor():
    with pytest.raises(DescriptorError, match=r"number of leads: found 6, expected 1\.\.4"):
        descriptor(LIMB_LEADS)
    raw = bytearray(encode_descriptor(descriptor(CLAIMED))[:-2])
    raw[1] = 6
    with pytest.raises(DescriptorError, match=r"number of leads: found 6"):
        decode_descriptor(with_crc(bytes(raw)))


WRONG = {
    "III is noise": lambda six: {"III": np.random.default_rng(3).normal(0, 150, six.shape[1])},
    "III is inverted": lambda six: {"III": -six[2]},
    "III is another lead": lambda six: {"III": six[3]},
    "aVF has twice its scale": lambda six: {"aVF": 2 * six[5]},
    "aVF is 40 ms late": lambda six: {"aVF": np.roll(six[5], 20)},
    "four independent leads": lambda six: {"III": np.roll(six[1], 190), "aVF": np.roll(six[0], 77)},
}


@pytest.mark.promise(133)
def test_the_same_device_telling_the_truth_is_screened(limb_uv, screener):
    """The control: without a lie the outcome is one of the two that a model gives."""
    outcome = screener.screen(claim(limb_uv, CLAIMED).to_record()).decision.outcome
    assert outcome in (Outcome.DETECTED, Outcome.NOT_DETECTED)


@pytest.mark.promise(133)
@pytest.mark.parametrize("lie", WRONG)
def test_a_device_that_breaks_einthovens_law_never_ends_as_not_detected(limb_uv, screener, lie):
    recording = claim(limb_uv, CLAIMED, **WRONG[lie](limb_uv))
    assert not recording.limb_check().ok
    record = recording.to_record()
    assert Reason.EINTHOVEN in assess(record).reasons
    decision = screener.screen(record).decision
    assert decision.outcome is Outcome.ABSTAIN
    assert "EINTHOVEN" in decision.reasons
