"""The toy student, trained once."""

from __future__ import annotations

import pytest

from lsemvae.explain.attribution import Explained, explained
from tests.explain.toy import train_student


@pytest.fixture(scope="session")
def toy_student() -> Explained:
    return explained(train_student())
