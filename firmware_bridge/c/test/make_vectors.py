"""The vector files as a C header: ``python make_vectors.py > vectors.h``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

VECTORS: Final = Path(__file__).resolve().parents[2] / "protocol" / "vectors"
_ERRORS: Final = {
    "FrameTooShortError": "E6L_ERROR_SHORT",
    "FrameCrcError": "E6L_ERROR_CRC",
    "FrameVersionError": "E6L_ERROR_VERSION",
    "FrameCodecError": "E6L_ERROR_CODEC",
    "FrameLengthError": "E6L_ERROR_LENGTH",
}
_TAG_FIELDS: Final = ("name", "key", "descriptor", "host_nonce", "device_nonce", "tag")
_LEADS: Final = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_DESCRIPTOR_FIELDS: Final = (
    "codecs", "features", "fs_mhz", "lsb_pv", "range_uv", "hpf_mhz", "lpf_dhz", "adc_bits", "preferred_samples",
    "ring_s", "boot_id", "calibration_nv", "front_end_id",
)  # fmt: skip
_STATUS_FIELDS: Final = (
    "state", "contact", "battery_percent", "battery_mv", "temperature_centi_c", "next_index", "oldest_index",
    "overruns",
)  # fmt: skip


def main() -> None:
    """Write the header to standard output."""
    frame, descriptor, status = _load("live_frame"), _load("descriptor"), _load("status")
    bulk, auth, control = _load("bulk"), _load("authenticity"), _load("control")
    pulses = [
        f"{_text(c['name'])}, {_n(c['fs_mhz'])}, {c['seconds']}, {_n(c['n_samples'])}"
        for c in _load("calibration")["cases"]
    ]
    tables = [
        _table("crc16_case", "crc16_cases", [_row(c, _n(c["crc"])) for c in _load("crc16")["cases"]]),
        _table("crc16_case", "crc32_cases", [_row(c, _n(c["crc32"])) for c in bulk["crc32"]]),
        _table("frame_case", "frame_cases", [_row(c, *_frame(c)) for c in frame["cases"]]),
        _table("refused_case", "frame_refused", [_row(c, _ERRORS[c["error"]]) for c in frame["refused"]]),
        _table("descriptor_case", "descriptor_cases", [_row(c, _descriptor(c)) for c in descriptor["cases"]]),
        _table("refused_case", "descriptor_refused", [_row(c, "0") for c in descriptor["refused"]]),
        _table("status_case", "status_cases", [_row(c, _fields(c, _STATUS_FIELDS)) for c in status["cases"]]),
        _table("refused_case", "status_refused", [_row(c, "0") for c in status["refused"]]),
        _table("bulk_case", "bulk_cases", [_row(c, _n(c["offset"]), _text(c["data"])) for c in bulk["cases"]]),
        _table("refused_case", "bulk_refused", [_row(c, "0") for c in bulk["refused"]]),
        _table("tag_case", "tag_cases", [_texts(c, _TAG_FIELDS) for c in auth["cases"]]),
        _table("hmac_case", "hmac_cases", [_texts(c, ("name", "key", "message", "hmac")) for c in auth["hmac"]]),
        _table(
            "refused_case",
            "requests_refused",
            [_row(c, f"E6L_{c['answer']}") for c in control["refused"] if "answer" in c],
        ),
        _table("pulse_case", "pulse_cases", pulses),
    ]
    sys.stdout.write("/* Made from firmware_bridge/protocol/vectors by make_vectors.py. */\n" + "\n".join(tables))


def _load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def _table(kind: str, name: str, rows: list[str]) -> str:
    body = "".join(f"    {{{row}}},\n" for row in rows)
    return f"static const {kind} {name}[] = {{\n{body}}};\n"


def _row(case: dict[str, Any], *fields: str) -> str:
    return ", ".join((_texts(case, ("name", "hex")), *fields))


def _texts(case: dict[str, Any], names: tuple[str, ...]) -> str:
    return ", ".join(_text(case[name]) for name in names)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=True)


def _n(number: int) -> str:
    return f"{number}u" if number >= 0 else f"({number})"


def _fields(case: dict[str, Any], names: tuple[str, ...]) -> str:
    return "{" + ", ".join(f".{name.removesuffix('_samples')} = {_n(int(case[name]))}" for name in names) + "}"


def _descriptor(case: dict[str, Any]) -> str:
    codes = ", ".join(str(_LEADS.index(name) + 1) for name in case["leads"])
    rest = _fields(case, _DESCRIPTOR_FIELDS).removeprefix("{")
    return f"{{.leads = {len(case['leads'])}, .lead = {{{codes}}}, {rest}"


def _frame(case: dict[str, Any]) -> tuple[str, str, str]:
    leads, n = len(case["samples"]), len(case["samples"][0])
    interleaved = [str(case["samples"][lead][k]) for k in range(n) for lead in range(leads)]
    fields = _fields(case, ("codec", "flags", "seq", "t0", "contact")).removesuffix("}")
    return str(leads), f"{fields}, .n = {n}}}", "{" + ", ".join(interleaved) + "}"


if __name__ == "__main__":
    main()
