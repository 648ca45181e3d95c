"""caches/redis_store.py: servers that are away, come back, or allow not every command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches as django_caches
from redis import Redis as Client
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers.process import free_port

from django_pgnudge import caches
from django_pgnudge.errors import CacheError, UnsupportedError
from django_pgnudge.rules import Deletes
from tests.caches.filling import SESSION_KEY, fill, left, ref
from tests.fix_caches import DJANGO, DJANGO_REDIS, REDIS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django.fixtures import Settings
    from servers.redis import Redis


@pytest.mark.parametrize("backend", REDIS)
@pytest.mark.parametrize("options", [{}, {"ignore": True}])
def test_a_dead_redis_raises_with_alias_and_address_and_no_password(
    backend: str, options: dict[str, Any], settings: Settings
) -> None:
    port = free_port()
    cache: dict[str, Any] = {"BACKEND": backend, "LOCATION": f"redis://:s3cret@127.0.0.1:{port}/3"}
    if options and backend != DJANGO:
        cache["OPTIONS"] = {"IGNORE_EXCEPTIONS": True}
        settings.DJANGO_REDIS_IGNORE_EXCEPTIONS = settings.DJANGO_VALKEY_IGNORE_EXCEPTIONS = True
    settings.CACHES = {"default": cache}
    calls: list[Callable[[], Any]] = [
        lambda: caches.delete(ref(), Deletes(keys={"a"})),
        lambda: caches.delete(ref(), Deletes(patterns={"a*"})),
        lambda: caches.clear_version(ref()),
        lambda: caches.clear("default"),
        lambda: caches.incarnation("default"),
    ]
    cache.setdefault("OPTIONS", {})
    if backend == DJANGO:
        cache["OPTIONS"]["retry"] = Retry(NoBackoff(), 0)
    else:
        cache["OPTIONS"]["CONNECTION_POOL_KWARGS"] = {"retry": None}
    for call in calls:
        with pytest.raises(CacheError, match=rf"'default' \(redis 127.0.0.1:{port}/3\)") as caught:
            call()
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("backend", REDIS)
def test_a_restarted_redis_is_another_incarnation(
    backend: str, redis_factory: Callable[..., Redis], settings: Settings
) -> None:
    redis = redis_factory()
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": redis.url}}
    first = caches.incarnation("default")
    assert first
    assert caches.incarnation("default") == first
    redis.restart()
    assert caches.incarnation("default") not in {first, None}


@pytest.mark.filterwarnings("ignore:.*on sharded client:UserWarning")
def test_shards_of_django_redis_are_all_cleared(
    redis_factory: Callable[..., Redis], settings: Settings
) -> None:
    servers = [redis_factory(), redis_factory()]
    settings.CACHES = {
        "default": {
            "BACKEND": DJANGO_REDIS,
            "LOCATION": [server.url for server in servers],
            "OPTIONS": {"CLIENT_CLASS": "django_redis.client.ShardClient"},
        }
    }
    keys = {f"p:{n}" for n in range(20)}
    fill(*keys, "q")
    assert all(server.command("DBSIZE") != ":0" for server in servers)
    assert caches.delete(ref(), Deletes(keys={"p:1", "p:2"})) == 2
    assert caches.delete(ref(), Deletes(patterns={"p:1*"})) == 10
    assert caches.clear_version(ref()) == 9
    assert left(*keys, "q") == set()


def test_a_redis_user_without_some_commands_is_served_as_far_as_it_goes(
    redis_server: Redis, settings: Settings
) -> None:
    address = redis_server.url.removeprefix("redis://")
    settings.CACHES = {
        "default": {"BACKEND": DJANGO, "LOCATION": f"redis://nudge:pw@{address}"},
    }
    try:
        everything_but = "-info", "-unlink"
        redis_server.command("ACL", "SETUSER", "nudge", "on", ">pw", "~*", "+@all", *everything_but)
        fill("a", "b", "c")
        assert caches.incarnation("default") is None
        assert caches.delete(ref(), Deletes(keys={"a"}, patterns={"b*"})) == 2
        redis_server.command("ACL", "SETUSER", "nudge", "-scan")
        with pytest.raises(UnsupportedError, match=r"allow its user SCAN") as caught:
            caches.clear_version(ref())
        assert "pw" not in str(caught.value)
        redis_server.command("ACL", "SETUSER", "nudge", "-del")
        with pytest.raises(CacheError, match=r"NoPermissionError"):
            caches.delete(ref(), Deletes(keys={"c"}))
    finally:
        redis_server.command("ACL", "DELUSER", "nudge")


@pytest.mark.parametrize("without", ["", "-@scripting", "-unlink", "-@scripting -unlink"])
def test_a_version_is_cleared_by_a_script_on_the_server_or_without(
    redis_server: Redis, settings: Settings, without: str
) -> None:
    address = redis_server.url.removeprefix("redis://")
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    settings.CACHES = {"default": {"BACKEND": DJANGO, "LOCATION": f"redis://nudge:pw@{address}"}}
    rules = ["on", ">pw", "~*", "+@all", *without.split()]
    redis_server.command("ACL", "SETUSER", "nudge", *rules)
    store: Any = django_caches["default"]
    with Client.from_url(redis_server.url) as client:
        try:
            store.set_many({f"key:{number}": 1 for number in range(3000)})
            fill("other", version=2)
            fill(SESSION_KEY)
            client.config_resetstat()
            assert caches.clear_version(ref()) == 3000
            assert left(SESSION_KEY) == {SESSION_KEY}
            assert left("other", version=2) == {"other"}
            scripts = client.info("commandstats").get("cmdstat_eval", {})
            allowed = scripts.get("calls", 0) - scripts.get("rejected_calls", 0)
            assert (allowed > 1) == (without == "")
        finally:
            redis_server.command("ACL", "DELUSER", "nudge")


def test_a_redis_behind_a_unix_socket_is_named_by_its_path(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": DJANGO, "LOCATION": "unix:///run/none.sock?db=1"}}
    with pytest.raises(CacheError, match=r"unix:/run/none.sock"):
        caches.delete(ref(), Deletes(keys={"a"}))
