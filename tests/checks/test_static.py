"""checks/static.py: what is found without a database."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

from django_pgnudge import nudged, own, page, site
from django_pgnudge.checks import anchor, static
from tests.checks.asking import check, check_server, ids, rules


def test_sound_settings_are_silent() -> None:
    assert check() == []
    assert check(INVALIDATE=rules("products", "product:{pk}", "p:*")) == []


@pytest.mark.parametrize(
    ("pgnudge", "expected"),
    [
        ({"PLUGN": "auto"}, "E002"),
        ({"CONNECTION": {"hots": "x"}}, "E002"),
        ({"PLUGIN": "decoderbufs"}, "E003"),
        ({"PLUGIN": "pgoutput"}, "E003"),
        ({"DATABASE": "nowhere"}, "E004"),
        ({"FEED": {"debounced": 1}}, "E005"),
        ({"INVALIDATE": {"shop.Prodct": "x"}}, "E006"),
        ({"TABLES": ["shop.Prodct"]}, "E006"),
        ({"EXCLUDE": ["shop.Prodct"]}, "E006"),
        ({"INVALIDATE": {"shop.Product": []}}, "E007"),
        ({"INVALIDATE": {"shop.Product": "p:{id}"}}, "E008"),
        ({"INVALIDATE": {"shop.Line": "p:{pk[2]}"}}, "E008"),
        ({"INVALIDATE": {"shop.Product": "tests.shop.unimportable.keys"}}, "E009"),
        ({"INVALIDATE": rules("tests.shop.cachekeys.nothing")}, "W007"),
        ({"INVALIDATE": rules(page(), cache="files"), "RESYNC": "keys"}, "E011"),
        ({"INVALIDATE": {"Product": "x"}}, "E006"),
        ({"INVALIDATE": {"shop_produkt": "x"}}, "E006"),
        ({"INVALIDATE": {"Prices": "x"}}, "E006"),
        ({"TABLES": ["shop_produkt"]}, "E006"),
        ({"INVALIDATE": rules("x", cache="flast")}, "E010"),
        ({"INVALIDATE": rules("x", cache="broken"), "RESYNC": "keys"}, "E010"),
        ({"INVALIDATE": rules("p:*", cache="files"), "RESYNC": "keys"}, "E011"),
        ({"INVALIDATE": rules("p:{pk}:*", cache="hashed"), "RESYNC": "keys"}, "E011"),
        ({"INVALIDATE": rules("p:{pk}", cache="files"), "RESYNC": "keys"}, "W003"),
        ({"INVALIDATE": rules("p", cache="local")}, "W002"),
        ({"INVALIDATE": rules("p", cache="dummy"), "RESYNC": "keys"}, "W002"),
        ({"INVALIDATE": {"sessions.Session": "s"}, "RESYNC": "keys"}, "W004"),
        ({"INVALIDATE": rules("p", cache="default")}, "W008"),
        ({"INVALIDATE": rules("p", cache="same")}, "W008"),
        ({"INVALIDATE": rules("p"), "RESYNC": "clear"}, "W008"),
        ({"FEED": {"debounce": "0.2"}}, "E003"),
        ({"FEED": {"backoff": "0.1"}}, "E003"),
        ({"INVALIDATE": rules("p"), "TABLES": ["shop.Category"]}, "W004"),
        ({"INVALIDATE": rules("p", cache="files")}, "W005"),
        ({"INVALIDATE": {"*": {"keys": "*", "cache": "files"}}, "RESYNC": "keys"}, "E011"),
        ({"INVALIDATE": {"*": {"keys": "p:*", "cache": "own"}}, "EXCLUDE": []}, "W011"),
    ],
)
def test_each_mistake_has_its_number_and_is_alone(pgnudge: dict[str, Any], expected: str) -> None:
    found = check(**pgnudge)
    assert ids(found) == [expected]
    assert found[0].hint is not None
    assert found[0].hint.endswith(anchor(expected))
    assert found[0].is_serious() == expected.startswith("E")


def test_a_rule_for_every_table_may_clear_a_whole_cache() -> None:
    rule = {"*": [{"keys": "*", "cache": "own"}, {"keys": site(), "cache": "own"}]}
    assert check(INVALIDATE=rule) == []
    rule = {"*": [{"keys": "*", "cache": "files"}]}
    assert check(INVALIDATE=rule, RESYNC="clear") == []
    (refused,) = check(INVALIDATE=rule, RESYNC="keys")
    assert 'PGNUDGE["RESYNC"] to "clear"' in str(refused.hint)


@pytest.mark.parametrize(
    ("rule", "more"),
    [
        ({"keys": "p", "cache": "own"}, {}),
        ({"keys": "p", "version": 2}, {}),
        ({"keys": "p", "cache": "fast"}, {}),
        ("p", {"RESYNC": "keys"}),
        ("p", {"RESYNC": "tests.checks.asking.hashed"}),
        ({"keys": "p", "cache": "fast"}, {"RESYNC": "clear"}),
    ],
)
def test_what_a_resync_leaves_to_other_code_is_not_told(rule: Any, more: dict[str, Any]) -> None:
    assert check(INVALIDATE={"shop.Product": rule}, **more) == []


def test_the_version_that_is_the_default_cache_s_own_is_shared_however_it_is_named() -> None:
    rule = {"keys": "p", "version": 1}
    (found,) = check(INVALIDATE={"shop.Product": rule})
    assert found.id == "django_pgnudge.W008"
    assert "'default', version 1" in str(found.msg)
    assert "KEY_PREFIX" in str(found.hint)


def test_another_database_system_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "mysql")
    assert ids(check()) == ["W009"]
    assert check_server() == []


@pytest.mark.parametrize(
    ("connection", "environment", "expected"),
    [
        ({"host": "one,two"}, {}, ["W010"]),
        ({"hostaddr": "192.0.2.1,192.0.2.2"}, {}, ["W010"]),
        ({"host": "one,two", "target_session_attrs": "any"}, {}, ["W010"]),
        ({"host": "one,two", "target_session_attrs": "read-write"}, {}, []),
        ({"host": "one,two"}, {"PGTARGETSESSIONATTRS": "primary"}, []),
        ({"host": "one"}, {"PGPORT": "5432,5433"}, []),
        ({}, {"PGHOSTADDR": "192.0.2.1,192.0.2.2"}, ["W010"]),
        ({"host": "one"}, {}, []),
    ],
)
def test_several_hosts_are_told_which_server_to_look_for(
    connection: dict[str, Any],
    environment: dict[str, str],
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ids(check(CONNECTION=connection)) == expected


def test_a_wrong_label_in_tables_is_told_once_though_rules_are_compared_with_it() -> None:
    assert ids(check(INVALIDATE=rules("p"), TABLES=["shop.Nope"])) == ["E006"]


@pytest.mark.parametrize("name", ["shop.Prodct", "Product", "shop_produkt"])
def test_a_slip_in_what_a_nudged_value_depends_on_is_found(name: str) -> None:
    @nudged(name, own("prices"))
    def total() -> int:
        return 1

    (found,) = check()
    assert ids([found]) == ["E006"]
    assert "total" in found.msg
    assert ids(check(NUDGED={"LEASE": "long"})) == ["E003"]


def test_mistakes_do_not_hide_each_other() -> None:
    found = check(
        PLUGIN="x",
        INVALIDATE={"shop.Nope": "a", "shop.Product": ["p:{x}"], "shop.Line": "b"},
        RESYNC="keys",
        NOPE=1,
    )
    assert sorted(ids(found)) == ["E002", "E003", "E006", "E008"]


@pytest.mark.parametrize(
    ("engine", "alias", "resync", "expected"),
    [
        ("cache", "default", "clear", ["W001"]),
        ("cached_db", "same", "clear", ["W001"]),
        ("cache", "fast", "clear", []),
        ("cache", "default", "versions", []),
        ("cache", "default", "keys", []),
        ("db", "default", "clear", []),
    ],
)
def test_sessions_in_a_cache_that_a_resync_clears_are_told(
    engine: str, alias: str, resync: str, expected: list[str]
) -> None:
    with override_settings(
        SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}", SESSION_CACHE_ALIAS=alias
    ):
        found = ids(check(INVALIDATE=rules("p"), RESYNC=resync))
        assert [each for each in found if each == "W001"] == expected


@pytest.mark.parametrize(
    ("cache", "words"),
    [
        (
            {
                "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
                "LOCATION": ["127.0.0.1:1", "127.0.0.1:2"],
            },
            "several memcached servers",
        ),
        (
            {
                "BACKEND": "django_redis.cache.RedisCache",
                "LOCATION": ["redis://127.0.0.1:1/0", "redis://127.0.0.1:1/1"],
                "OPTIONS": {"CLIENT_CLASS": "django_redis.client.ShardClient"},
            },
            "several servers",
        ),
        ({"BACKEND": "django.core.cache.backends.dummy.DummyCache"}, "keeps nothing"),
        ({"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}, None),
    ],
)
def test_a_cache_that_cannot_hold_nudged_values_is_told(
    settings: Any, cache: dict[str, Any], words: str | None
) -> None:
    settings.CACHES = {"default": {**settings.CACHES["default"]}, "values": cache}
    settings.PGNUDGE = {"NUDGED": {"CACHES": ["values"]}}
    found = [each for each in static.run() if each.id == "django_pgnudge.W006"]
    assert len(found) == (words is not None)
    assert words is None or words in found[0].msg


SITE = "django_pgnudge.middleware.NudgedSiteMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
SECURITY = "django.middleware.security.SecurityMiddleware"


def test_nudged_values_in_the_memory_of_one_process_are_warned_about(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    assert check() == []  # a site that has none

    @nudged()
    def menu() -> int:
        return 1

    (found,) = check()
    assert found.id == "django_pgnudge.W013"
    assert "'default'" in found.msg


def test_the_site_s_middleware_in_the_memory_of_one_process_too(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MIDDLEWARE = [SITE, SESSIONS]
    assert ids(check()) == ["W013"]


@pytest.mark.parametrize(
    ("middleware", "found"),
    [
        ([SITE, SESSIONS], []),
        ([SECURITY, SITE, SESSIONS], []),
        ([SECURITY, SESSIONS, SITE], ["W014"]),
        ([SESSIONS], []),
    ],
)
def test_what_stands_above_the_site_s_middleware(
    settings: Any, middleware: list[str], found: list[str]
) -> None:
    settings.MIDDLEWARE = middleware
    assert [each for each in ids(check()) if each != "W013"] == found
