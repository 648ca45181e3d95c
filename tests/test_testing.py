"""The fixtures for the tests of projects, used as a project uses them."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import caches

from django_pgnudge import nudged
from django_pgnudge.errors import PgNudgeError
from django_pgnudge.testing import NudgeFeed

from .shop.models import Category


@nudged(Category)
def names() -> list[str]:
    return sorted(Category.objects.values_list("name", flat=True))


@pytest.fixture(autouse=True)
def _caches(settings: Any) -> None:
    backend = "django.core.cache.backends.locmem.LocMemCache"
    settings.CACHES = {
        alias: {"BACKEND": backend, "LOCATION": f"testing {alias}"} for alias in ("default", "fast")
    }
    caches["default"].clear()


def test_the_real_feed_keeps_values_fresh_and_settles(nudge_feed):
    assert names() == []
    Category.objects.create(name="a")
    nudge_feed.settle()
    assert names() == ["a"]
    Category.objects.update(name="b")
    nudge_feed.settle()
    assert names() == ["b"]


def test_a_daemon_that_cannot_start_says_why(transactional_db, settings):
    settings.PGNUDGE = {"PLUGIN": "pgoutput", "PUBLICATION": "missing"}
    with pytest.raises(PgNudgeError, match="missing"), NudgeFeed():
        pass
