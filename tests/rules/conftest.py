"""Each test of the rules has only its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_pgnudge.rules.registration import sandbox


@pytest.fixture(autouse=True)
def _only_the_tests_own_rules() -> Iterator[None]:
    with sandbox():
        yield
