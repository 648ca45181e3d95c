"""contrib.cacheops.cache: which conditions end. In the test's process cacheops is not active."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import redis

from django_pgnudge.registry import Registry
from django_pgnudge.third_party import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django.fixtures import Settings
    from servers.redis import Redis

pytest.importorskip("cacheops")

from cacheops.conf import prepare_profiles
from cacheops.conf import settings as cacheops_settings

from django_pgnudge.contrib.cacheops import cache as module
from django_pgnudge.contrib.cacheops import checks
from django_pgnudge.contrib.cacheops.cache import Cacheops, _concerns, _others
from django_pgnudge.contrib.concerned_tables import ConcernedTables

PRODUCT = Table("public", "shop_product")
RESULT = "q:" + "a" * 32
OTHER = "as:" + "b" * 32


@pytest.fixture
def client(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(ConcernedTables, "_views_of", lambda self, registry: frozenset())
    with redis.Redis.from_url(redis_server.url) as made:
        monkeypatch.setattr(module, "redis_client", made)
        yield made


def keys(client: Any) -> set[str]:
    return {key.decode() for key in client.scan_iter()}


def others(table: str, *pks: Any) -> Any:
    return _others(table, frozenset((pk,) for pk in pks) or None)


@pytest.mark.parametrize(
    ("condition", "stays"),
    [
        ("id=8", True),
        ("id=7", False),
        ("", False),
        ("name=x", False),
        ("category_id=8", False),
        ("category_id=3&id=8", False),
        ("id=8&name=x", False),
        ("name=a&id=8", False),
        ("id=None", False),
        ("id=userdata: NULL", False),
        ("id=1e+15", False),
        ("id=1000000000000008", False),
        ("id=-8", True),
    ],
)
def test_only_a_primary_key_of_other_rows_stays(condition: str, *, stays: bool) -> None:
    assert others("shop_product", 7)(condition) is stays


@pytest.mark.parametrize(
    ("table", "pks", "condition", "stays"),
    [
        ("shop_product", (), "id=8", False),
        ("shop_coupon", ("a",), "code=b", False),
        ("shop_flag", (True,), "is_set=False", False),
        ("shop_restaurant", (1,), "place_ptr_id=2", True),
        ("shop_token", (uuid.UUID(int=7),), f"id={uuid.UUID(int=8)}", True),
        ("shop_token", (uuid.UUID(int=7),), f"id={uuid.UUID(int=7)}", False),
        ("unheard_of", (7,), "id=8", False),
    ],
)
def test_what_the_key_s_kind_does_not_tell_apart_ends(
    table: str, pks: tuple[Any, ...], condition: str, *, stays: bool
) -> None:
    assert others(table, *pks)(condition) is stays


def test_a_key_whose_column_has_another_name_is_not_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Conditions of joins name columns, so "id" may be another field's.
    pk = SimpleNamespace(attname="id", column="number")
    meta = SimpleNamespace(db_table="odd", proxy=False, pk=pk)
    monkeypatch.setattr(module, "all_models", lambda: [SimpleNamespace(_meta=meta)])
    assert not others("odd", 7)("id=8")
    pk.column = "id"
    assert others("odd", 7)("id=8")


def test_names_with_colons_are_taken_for_each_table_that_they_may_mean() -> None:
    spared = {"a": others("shop_product", 7), "a:b": others("shop_product", 7)}
    assert _concerns("a:id=7", spared)
    assert not _concerns("a:id=8", spared)
    assert _concerns("a:b:id=7", spared)
    assert _concerns("a:b:name=x:y", spared)
    assert not _concerns("c:id=7", spared)
    assert _concerns("a:b:id=7", {"a:b": others("shop_product", 7)})


def test_results_end_with_their_conditions_and_others_stay(client: Any) -> None:
    client.mset({RESULT: 1, OTHER: 1, "mine": 1})
    client.sadd("conj:shop_product:category_id=3", RESULT)
    client.sadd("conj:shop_product:id=8", OTHER)
    client.sadd("conj:shop_category:", OTHER)
    client.sadd("schemes:shop_product", "id", "category_id")
    assert Cacheops().invalidate({PRODUCT: frozenset({(7,)})}, Registry()) == 1
    assert keys(client) == {
        OTHER, "mine", "conj:shop_product:id=8", "conj:shop_category:", "schemes:shop_product"
    }  # fmt: skip
    assert Cacheops().invalidate({PRODUCT: None}, Registry()) == 1
    assert keys(client) == {"mine", "conj:shop_category:", "schemes:shop_product"}


def test_conditions_of_the_mode_insideout_end(client: Any) -> None:
    client.set("conj:shop_product:category_id=3", "0.5")
    Cacheops().invalidate({PRODUCT: frozenset({(7,)})}, Registry())
    assert keys(client) == set()


def test_a_prefix_that_only_a_request_knows_is_any(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.mset({f"acme:{RESULT}": 1, f"acme:{OTHER}": 1, "acme:mine": 1})
    client.sadd("acme:conj:shop_product:category_id=3", f"acme:{RESULT}")
    client.sadd("acme:conj:shop_category:", f"acme:{OTHER}")
    Cacheops().invalidate({PRODUCT: None}, Registry())
    assert f"acme:{RESULT}" in keys(client), "without a prefix it is not ours"
    monkeypatch.setattr(cacheops_settings, "CACHEOPS_PREFIX", lambda query: "")
    Cacheops().invalidate({PRODUCT: frozenset({(7,)})}, Registry())
    assert keys(client) == {"acme:mine", f"acme:{OTHER}", "acme:conj:shop_category:"}
    Cacheops().invalidate_all(Registry())
    assert keys(client) == {"acme:mine"}


def test_everything_is_what_cacheops_keeps_and_no_more(client: Any) -> None:
    client.mset({RESULT: 1, OTHER: 1, "mine": 1, "q:mine": 1, "c:" + "c" * 32: 1})
    client.sadd("conj:shop_product:", RESULT)
    client.sadd("schemes:shop_product", "")
    Cacheops().invalidate_all(Registry())
    assert keys(client) == {"mine", "q:mine", "c:" + "c" * 32, "schemes:shop_product"}


def test_more_conditions_than_one_call_takes(client: Any) -> None:
    for number in range(450):
        client.sadd(f"conj:shop_product:category_id={number}", f"q:{number:032x}")
        client.set(f"q:{number:032x}", 1)
    assert Cacheops().invalidate({PRODUCT: None}, Registry()) == 450
    assert keys(client) == set()


def test_a_server_that_is_away_is_an_error(client: Any, redis_server: Redis) -> None:
    redis_server.kill()
    try:
        with pytest.raises(redis.ConnectionError):
            Cacheops().invalidate({PRODUCT: None}, Registry())
    finally:
        redis_server.start()


def test_the_memory_of_processes_is_a_warning(settings: Settings) -> None:
    settings.CACHEOPS = {"shop.product": {"ops": "get", "timeout": 60, "local_get": True}}
    prepare_profiles.memory.clear()
    try:
        (found,) = checks.check_cacheops()
        assert found.id == "django_pgnudge.W012"
    finally:
        prepare_profiles.memory.clear()
