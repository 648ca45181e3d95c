"""A registry of the models of tests.shop."""

from __future__ import annotations

import pytest

from django_pgnudge.registry import Registry


@pytest.fixture
def registry() -> Registry:
    return Registry()
