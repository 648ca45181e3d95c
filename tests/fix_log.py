"""Each test hears warnings that are rate-limited as if none had been logged before."""

from __future__ import annotations

import pytest

from django_pgnudge.log import forget_logged


@pytest.fixture(autouse=True)
def _nothing_was_logged_before() -> None:
    forget_logged()
