"""The helpers for the tests of projects, used as a project uses them."""

from __future__ import annotations

import subprocess
import sys
import unittest
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from django.test import TestCase, TransactionTestCase
from redis import Redis as Client

from django_pgnudge import nudged
from django_pgnudge.errors import PgNudgeError
from django_pgnudge.testing import NudgeFakeMixin, NudgeFeed, NudgeFeedMixin, faked
from django_pgnudge.testing.apart import LONGEST

from .shop.models import Category

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.redis import Redis

BACKENDS = (
    "django_redis.cache.RedisCache",
    "django.core.cache.backends.redis.RedisCache",
    "django_valkey.cache.ValkeyCache",
)


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


def backwards(key: str, prefix: str, version: int) -> str:
    return f"{key}/{version}"


@pytest.fixture(params=BACKENDS)
def developers(request: pytest.FixtureRequest, redis_server: Redis, settings: Any) -> Client:
    """The Redis of a developer, in which a site keeps its values and runnudge a lease."""
    settings.CACHES = {
        "default": {"BACKEND": request.param, "LOCATION": redis_server.url, "TIMEOUT": None},
        "fast": {
            "BACKEND": request.param,
            "LOCATION": redis_server.url,
            "KEY_FUNCTION": "tests.test_testing.backwards",
        },
    }
    for alias in ("default", "fast"):
        caches[alias].set("site", "the site's", None)
    client = Client.from_url(redis_server.url)
    client.set("lease of the site", "x")
    return client


def stored(client: Client) -> dict[bytes, Any]:
    return {key: client.get(key) for key in client.scan_iter()}


def use_the_caches() -> None:
    for alias in ("default", "fast"):
        assert caches[alias].get("site") is None, "the site's values are not the test's"
        caches[alias].set("site", "the test's", version=7)
        caches[alias].set("site", "the test's")
    assert names() == names()


def test_the_caches_of_a_test_are_apart_and_nothing_stays(developers: Client, db: None) -> None:
    before = stored(developers)
    with faked() as fake:
        use_the_caches()
        during = stored(developers)
        assert before.items() < during.items()
        # A process that is killed here leaves nothing for longer.
        times = {key: developers.ttl(key) for key in during.keys() - before.keys()}
        assert {key: left for key, left in times.items() if not 0 < left <= LONGEST} == {}
        fake.changed(Category)
    assert stored(developers) == before
    assert caches["default"].get("site") == "the site's"


def test_the_real_daemon_is_apart_too(developers: Client, transactional_db: None) -> None:
    before = stored(developers)
    with NudgeFeed() as feed:
        use_the_caches()
        Category.objects.create(name="a")
        feed.settle()
        assert names() == ["a"]
        assert before.items() < stored(developers).items()
    assert stored(developers) == before


@pytest.mark.parametrize("helper", [faked, NudgeFeed])
def test_whatever_is_raised_nothing_stays(
    developers: Client, transactional_db: None, helper: Callable[[], Any]
) -> None:
    before = stored(developers)
    with pytest.raises(KeyboardInterrupt), helper():
        use_the_caches()
        raise KeyboardInterrupt
    assert stored(developers) == before


def test_a_daemon_that_does_not_start_leaves_the_caches_as_they_were(
    developers: Client, transactional_db: None, settings: Any
) -> None:
    settings.PGNUDGE = {"PLUGIN": "pgoutput", "PUBLICATION": "missing"}
    before = stored(developers)
    with pytest.raises(PgNudgeError, match="missing"), NudgeFeed():
        pass
    assert stored(developers) == before
    assert caches["default"].get("site") == "the site's"


def test_caches_that_a_test_configures_meanwhile_are_apart_too(
    developers: Client, db: None, settings: Any
) -> None:
    with faked():
        settings.CACHES = {"default": settings.CACHES["default"]}
        assert caches["default"].get("site") is None
    assert caches["default"].get("site") == "the site's"


def results_of(case: type[unittest.TestCase]) -> unittest.TestResult:
    return unittest.defaultTestLoader.loadTestsFromTestCase(case).run(unittest.TestResult())


def test_unittest_has_mixins_for_the_same(developers: Client, transactional_db: None) -> None:
    class Fake(NudgeFakeMixin, TestCase):
        def test_it(self) -> None:
            assert names() == []
            Category.objects.create(name="a")
            self.nudge_fake.changed(Category)
            assert names() == ["a"]

    class Feed(NudgeFeedMixin, TransactionTestCase):
        def test_it(self) -> None:
            assert names() == []
            Category.objects.create(name="a")
            self.nudge_feed.settle()
            assert names() == ["a"]

        def test_that_fails(self) -> None:
            use_the_caches()
            raise AssertionError("on purpose")

    class Never(NudgeFeedMixin, TestCase):
        def test_it(self) -> None:
            pass

    before = stored(developers)
    assert results_of(Fake).wasSuccessful()
    found = results_of(Feed)
    assert [
        (case.id().rpartition(".")[2], "on purpose" in text) for case, text in found.failures
    ] == [("test_that_fails", True)]
    assert not found.errors
    assert found.testsRun == 2
    assert stored(developers) == before
    ((_, text),) = results_of(Never).errors
    assert "TransactionTestCase" in text


def test_the_mixins_need_no_pytest() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None;"
        "from django.conf import settings; settings.configure();"
        "import importlib.util as u; find = u.find_spec;"
        "u.find_spec = lambda name, *a: None if name == 'pytest' else find(name, *a);"
        "from django_pgnudge.testing import NudgeFakeMixin; print(NudgeFakeMixin.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "NudgeFakeMixin"
