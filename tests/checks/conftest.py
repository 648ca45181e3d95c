"""Checks of caches that stand for those of a site, and of no rules in code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.test import override_settings

from django_pgnudge.rules.registration import sandbox
from tests.checks.asking import CACHES

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _shared_caches_and_no_rules_in_code() -> Iterator[None]:
    with sandbox(), override_settings(CACHES=CACHES):
        yield
