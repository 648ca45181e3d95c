"""A Redis Cluster: rules, patterns, a Resync and nudged values, with a failover."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
import valkey
from django.core.cache import caches as django_caches
from servers.process import wait_until
from servers.redis_cluster import RedisCluster

from django_pgnudge import caches, nudged
from django_pgnudge.caches import Question, redis_value_store
from django_pgnudge.caches.client_library import _library
from django_pgnudge.caches.cluster_value_store import ClusterValueStore
from django_pgnudge.daemon.background import BackgroundDaemon
from django_pgnudge.reader.settled import settled
from django_pgnudge.rules import CacheRef, Deletes
from tests.fix_nudged import lease_in, names_of
from tests.fix_servers import missing, redis_program
from tests.shop.models import Category

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django.fixtures import Settings
    from servers.redis import Redis

BACKENDS: dict[str, dict[str, Any]] = {
    "django-valkey": {"BACKEND": "django_valkey.cluster_cache.cache.ClusterValkeyCache"},
    "django-redis": {
        "BACKEND": "django_redis.cache.RedisCache",
        "OPTIONS": {"CONNECTION_FACTORY": "benchmarks.topologies.site.factory.ClusterFactory"},
    },
    "Django's": {"BACKEND": "tests.caches.cluster_clients.ClusterCache"},
}
LEASE = 2.0
TIMEOUTS = "socket_timeout=1&socket_connect_timeout=1"

# A cluster's client drops its connections to a node that has gone, or has other slots, unclosed.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]


@pytest.fixture(scope="module")
def _cluster() -> Iterator[RedisCluster]:
    program = redis_program()
    if program is None:
        pytest.skip(missing("redis"))
    with RedisCluster(program, replicas=3) as cluster:
        yield cluster


@pytest.fixture(params=BACKENDS)
def cluster(
    request: pytest.FixtureRequest, _cluster: RedisCluster, settings: Settings
) -> Iterator[RedisCluster]:
    """The cache "default" lies in it."""
    for node in _cluster.nodes:
        node.start()
    _cluster.wait_until_whole()
    _cluster.empty()
    settings.CACHES = {
        "default": {**BACKENDS[request.param], "LOCATION": f"{_cluster.url}?{TIMEOUTS}"},
        "fast": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    }
    settings.PGNUDGE = {
        "INVALIDATE": {"shop.Category": ["category:{pk}", "categories:*"]},
        "NUDGED": {"CACHES": ["default"], "LEASE": LEASE},
    }
    yield _cluster
    caches.values("default")  # made, if it was not
    store = caches._wrap("default", django_caches["default"])  # noqa: SLF001 - its connections
    store.let_go()


@pytest.fixture
def site(cluster: RedisCluster, django_postgres: Any) -> Iterator[BackgroundDaemon]:
    with BackgroundDaemon() as running:
        wait_until(holds, "the lease", timeout=30)
        yield running


def holds() -> Any:
    return lease_in("default", names_of())


def cache() -> Any:
    return django_caches["default"]


runs: list[int] = []
"""The primary keys for which `name` was computed."""


@nudged(depends_on=lambda pk: [nudged.row(Category, pk)])
def name(pk: int) -> str:
    runs.append(pk)
    return str(Category.objects.get(pk=pk).name)


def is_hit(pk: int) -> bool:
    runs.clear()
    name(pk)
    return not runs


def a_cached_row() -> Category:
    """Its name is "before", and `name` of it is served from the cache."""
    row = Category.objects.create(name="before")
    assert settled(timeout=20)
    wait_until(lambda: is_hit(row.pk), "a hit", timeout=30)
    return row


def test_keys_patterns_and_versions_are_deleted_on_every_node(cluster: RedisCluster) -> None:
    keys = [f"{name}:{number}" for name in "abc" for number in range(50)]
    for key in keys:
        cache().set(key, 1, None)
        cache().set(key, 1, None, version=2)
    ref = CacheRef("default", 1)
    assert caches.delete(ref, Deletes(keys=set(keys[:50]))) == 50
    assert caches.delete(ref, Deletes(patterns={"b:*"})) == 50
    left = [key for key in keys if cache().get(key) is not None]
    assert left == keys[100:]
    assert caches.count(ref, Deletes(whole=True)) == 50
    assert caches.clear_version(ref) == 50
    assert caches.count_all("default") == 150
    caches.clear("default")
    assert caches.count_all("default") == 0


def test_rules_delete_and_nudged_values_follow(site: BackgroundDaemon) -> None:
    rows = [Category.objects.create(name=str(n)) for n in range(20)]
    assert settled(timeout=20)
    for row in rows:
        cache().set(f"category:{row.pk}", 1, None)
        wait_until(lambda row=row: is_hit(row.pk), "a hit", timeout=30)  # type: ignore[misc]
    cache().set("categories:all", 1, None)
    Category.objects.filter(pk__in=[row.pk for row in rows[:10]]).update(name="new")
    assert settled(timeout=20)
    left = [row.pk for row in rows if cache().get(f"category:{row.pk}") is not None]
    assert left == [row.pk for row in rows[10:]]
    assert cache().get("categories:all") is None
    runs.clear()
    assert [name(row.pk) for row in rows] == ["new"] * 10 + [row.name for row in rows[10:]]
    assert runs == [row.pk for row in rows[:10]], "the others are still in the cache"


def test_all_that_proves_a_value_is_on_one_node_and_the_values_are_not(
    site: BackgroundDaemon, cluster: RedisCluster
) -> None:
    names, key = names_of(), cache().make_key
    proofs = [names.lease, names.mark("x"), names.table("public.a"), names.bulk("public.b")]
    assert len({cluster.home(key(name)).port for name in proofs}) == 1
    assert len({cluster.home(key(names.entry(str(n)))).port for n in range(100)}) == 3


def test_a_failover_of_the_node_with_the_lease_serves_nothing_stale(
    site: BackgroundDaemon, cluster: RedisCluster
) -> None:
    row = a_cached_row()
    cluster.home(lease_key()).kill()
    Category.objects.filter(pk=row.pk).update(name="meanwhile")
    changed = time.monotonic()
    cluster.wait_until_whole()

    def is_new() -> bool:
        began = time.monotonic()
        read = name(row.pk)
        assert read == "meanwhile" or began - changed <= LEASE, "stale past the lease"
        return read == "meanwhile" and is_hit(row.pk)

    wait_until(is_new, "a hit", timeout=30)
    Category.objects.filter(pk=row.pk).update(name="after")
    assert settled(timeout=20)
    assert name(row.pk) == "after"
    wait_until(lambda: is_hit(row.pk), "a hit", timeout=30)


def test_a_slot_that_moves_to_another_node_serves_nothing_stale(
    site: BackgroundDaemon, cluster: RedisCluster
) -> None:
    row = a_cached_row()
    lease = lease_key()
    seen: list[str] = []

    def change() -> None:
        Category.objects.filter(pk=row.pk).update(name="meanwhile")
        wait_until(lambda: name(row.pk) == "meanwhile", "the change, within the lease")
        seen.append(name(row.pk))

    before = cluster.home(lease)
    cluster.move(lease, between=change)
    assert (seen, cluster.home(lease) is before) == (["meanwhile"], False)
    wait_until(lambda: is_hit(row.pk), "a hit", timeout=30)
    Category.objects.filter(pk=row.pk).update(name="after")
    assert settled(timeout=20)
    assert name(row.pk) == "after"


def test_a_node_that_hangs_is_left_for_the_one_that_took_over(
    site: BackgroundDaemon, cluster: RedisCluster
) -> None:
    row = a_cached_row()
    hung = cluster.home(lease_key())
    hung.pause()
    try:
        wait_until(lambda: cluster.home(lease_key()) is not hung, "a failover", timeout=30)
        Category.objects.filter(pk=row.pk).update(name="after")
        wait_until(lambda: is_hit(row.pk) and name(row.pk) == "after", "a hit", timeout=30)
        assert caches.incarnation("default")
        assert settled(timeout=20)
    finally:
        hung.resume()


def test_a_node_that_came_later_is_cleared_too(cluster: RedisCluster) -> None:
    ref = CacheRef("default", 1)
    assert caches.count_all("default") == 0  # the client has seen the nodes
    key = cache().make_key("page:1")
    home, late = cluster.home(key), cluster.add()
    cluster.move(key, late)
    try:
        late.command("SET", key, "1")
        assert caches.count(ref, Deletes(patterns={"page:*"})) == 1
        assert caches.delete(ref, Deletes(patterns={"page:*"})) == 1
        late.command("SET", key, "1")
        assert caches.clear_version(ref) == 1
        late.command("SET", key, "1")
        caches.clear("default")
        assert late.command("EXISTS", key) == ":0"
    finally:
        cluster.move(key, home)  # and by that it is a replica


def test_a_value_that_comes_late_is_judged_by_the_time_when_it_came(cluster: RedisCluster) -> None:
    values = cluster_values()
    question = apart(values, cluster)
    values.keep(question.entry, "stamp", 1, 60)
    slow = cluster.home(cache().make_key(question.entry))
    values.ask(question)  # both nodes are connected
    before = values.now(question.lease)
    slow.pause()
    began = time.monotonic()
    resume = threading.Timer(0.3, slow.resume)
    resume.start()
    answer = values.ask(question)
    taken = time.monotonic() - began
    resume.join()
    assert answer.entry is not None
    assert taken >= 0.3
    assert answer.now - before >= taken - 0.05, "not when the other node had answered"


def test_where_every_node_hangs_a_read_waits_once_and_none_is_forgotten(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = cluster_values()
    question = apart(values, cluster)
    values.ask(question)
    asked: list[Question] = []
    ask_after = values._ask_after  # noqa: SLF001 - each round of questions

    def note(commands: list[bytes], question: Question) -> Any:
        asked.append(question)
        return ask_after(commands, question)

    monkeypatch.setattr(values, "_ask_after", note)
    known_nodes = values._cluster.nodes_manager  # noqa: SLF001 - the library tells nobody
    known = set(known_nodes.startup_nodes)
    running = [node for node in cluster.nodes if node.running]
    for node in running:
        node.pause()
    try:
        with pytest.raises((redis.exceptions.TimeoutError, valkey.exceptions.TimeoutError)):
            values.ask(question)
    finally:
        for node in running:
            node.resume()
    assert len(asked) == 1
    assert set(known_nodes.startup_nodes) >= known
    cluster.wait_until_whole()


@pytest.mark.parametrize("library", [redis, valkey])
@pytest.mark.parametrize("pool", ["ConnectionPool", "BlockingConnectionPool"])
def test_a_pool_that_is_full_is_no_node_that_has_gone(
    library: Any, pool: str, redis_server: Redis
) -> None:
    known = _library(library.__name__)
    more = {"timeout": 0.01} if pool.startswith("Blocking") else {}
    where = {"host": "127.0.0.1", "port": redis_server.port}
    made = getattr(library, pool)(max_connections=1, **more, **where)
    held = known.connect(made)
    with pytest.raises(library.exceptions.ConnectionError) as full:
        known.connect(made)
    assert not known.is_moved(full.value)
    held.disconnect()


def test_where_the_value_s_node_is_away_no_token_is_made(cluster: RedisCluster) -> None:
    values = cluster_values()
    question = apart(values, cluster)
    values.ask(question)
    cluster.home(cache().make_key(question.entry)).kill()
    with pytest.raises(Exception, match="Connection"):
        values.make(question, {question.tokens[0]: ("0" * 24, None)})
    assert not values.has(question.tokens[0])


def test_what_a_node_refuses_is_asked_of_the_one_that_has_it(cluster: RedisCluster) -> None:
    values = cluster_values()
    values.set("entry", 1, 60)
    cluster.move(cache().make_key("entry"))
    values.drop(["entry"])
    assert values.get("entry") is None
    cluster.move(cache().make_key("entry"))
    values.set("entry", 2, 60)
    assert values.get("entry") == 2


def test_a_reader_needs_one_connection_where_one_node_has_all(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = cluster_values()
    opened: list[Any] = []
    connect = values._connect  # noqa: SLF001 - each connection

    def note(pool: Any) -> Any:
        opened.append(pool)
        return connect(pool)

    monkeypatch.setattr(values, "_connect", note)
    values.ask(Question("{a}lease", "{a}entry", ("{a}token",)))
    assert len(opened) == 1
    values.ask(apart(values, cluster))
    assert len(opened) == 3


def test_one_name_may_be_read_in_a_cluster_and_elsewhere(
    cluster: RedisCluster, redis_server: Redis, settings: Settings
) -> None:
    backend = "django_redis.cache.RedisCache"
    other = {"BACKEND": backend, "LOCATION": redis_server.url}
    settings.CACHES = {**settings.CACHES, "other": other}
    question = Question("{a}lease", "entry", ("{a}token",))
    for alias in ("default", "other", "default", "other"):
        values = caches.values(alias)
        values.set_text("{a}token", alias)
        values.keep("entry", alias, 1, 60)
        answer = values.ask(question)
        assert answer.entry is not None
        assert (answer.texts["{a}token"], answer.entry.stamp) == (alias, alias)


def test_the_lease_is_granted_where_scripts_are_forbidden(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = caches.values("default")
    monkeypatch.setattr(redis_value_store, "_GRANT", "this is no script")
    values.set("{a}mark", 7, 60)
    assert values.grant("{a}lease", "text", 60, "{a}mark", 7)
    assert not values.grant("{a}lease", "other", 60, "{a}mark", 8)
    assert values.ask(Question("{a}lease", "x", ())).texts == {"{a}lease": "text"}


def cluster_values() -> ClusterValueStore:
    values = caches.values("default")
    assert isinstance(values, ClusterValueStore)
    return values


def lease_key() -> str:
    return str(cache().make_key(names_of().lease))


def apart(values: ClusterValueStore, cluster: RedisCluster) -> Question:
    """A question to two nodes."""
    home = cluster.home(cache().make_key("{a}lease"))
    names = (f"entry{number}" for number in range(100))
    entry = next(name for name in names if cluster.home(cache().make_key(name)) is not home)
    return Question("{a}lease", entry, ("{a}token",))


@pytest.mark.parametrize("prefix", ["{site}", "a{b", "{}"])
def test_braces_in_the_prefix_are_right_or_refused(
    prefix: str, cluster: RedisCluster, settings: Settings
) -> None:
    settings.CACHES = {
        alias: {**options, "KEY_PREFIX": prefix} for alias, options in settings.CACHES.items()
    }
    refusal = caches.values("default").refusal()
    assert (refusal is not None) == (prefix == "{}")
