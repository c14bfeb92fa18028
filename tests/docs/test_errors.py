"""Every error can be understood by the person who meets it."""

from __future__ import annotations

import pytest

from lsemvae.ecg.errors import ADVICE
from tests.docs.pages import ROOT
from tools.pages.errors import PACKAGES, error_classes, rooms_that_raise


@pytest.mark.promise(67)
def test_every_error_has_advice_and_a_code_of_its_own_or_its_parents() -> None:
    kinds = error_classes(ROOT)
    assert {kind.__module__.split(".")[0] for kind in kinds} == set(PACKAGES)
    owners: dict[str, str] = {}
    for kind in kinds:
        error = kind("found a, expected b")
        assert error.advice.strip(), kind
        assert error.code.startswith("E_"), kind
        if "code" in vars(kind):
            assert owners.setdefault(kind.code, kind.__name__) == kind.__name__, f"{kind.code} belongs to two classes"
    assert set(ADVICE) <= set(owners)


def test_every_error_class_says_what_it_means_and_is_raised_or_has_children() -> None:
    kinds = error_classes(ROOT)
    rooms = rooms_that_raise(ROOT)
    for kind in kinds:
        assert (kind.__doc__ or "").strip().splitlines()[0].endswith("."), kind
        assert rooms[kind.__name__] or kind.__subclasses__(), f"{kind.__name__} is raised nowhere"
