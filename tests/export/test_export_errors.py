"""Every way an export can fail has a code of its own and tells what to do."""

from __future__ import annotations

import pytest

from export import errors
from export.errors import ExportError
from lsemvae.ecg.errors import ADVICE, EcgError


def kinds() -> list[type[ExportError]]:
    return [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, ExportError)]


@pytest.mark.promise(67)
def test_codes_are_unique_and_do_not_clash_with_the_floor() -> None:
    codes = [kind.code for kind in kinds()]
    assert len(set(codes)) == len(codes) >= 9
    assert not set(codes) & set(ADVICE)


def test_each_error_carries_its_advice_or_the_one_it_is_given() -> None:
    for kind in kinds():
        error = kind("found a; expected b")
        assert isinstance(error, EcgError)
        assert error.advice == kind.default_advice
        assert error.advice.endswith(".") or error.advice.endswith(").")
        assert kind("x", advice="do that").to_dict() == {"code": kind.code, "message": "x", "advice": "do that"}
