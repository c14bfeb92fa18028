"""Canonical JSON: one byte string for one value, so that a signature covers what is read."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from lsemvae.ecg.errors import ManifestError


def canonical_json(value: Any) -> bytes:
    """Return JSON as bytes: sorted keys, no blanks, ASCII only; NaN and infinity are refused."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode(
            "ascii"
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise ManifestError(
            f"found a value that JSON cannot hold ({error}), expected text, finite numbers, lists, objects"
        ) from error


def parse_json_object(data: bytes) -> dict[str, Any]:
    """Return the object of strict JSON bytes: no repeated key, no NaN, no infinity."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ManifestError(
            f"found bytes that are no JSON ({type(error).__name__}: {error}), expected a JSON object"
        ) from error
    if not isinstance(value, dict):
        raise ManifestError(f"found JSON of type {type(value).__name__}, expected an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise ManifestError(
            f"found repeated keys {sorted({n for n in names if names.count(n) > 1})}, expected each key once"
        )
    return result


def _no_constant(text: str) -> NoReturn:
    raise ManifestError(f"found {text}, expected finite numbers")
