"""A round is run in one order, whichever way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches as django_caches

from django_pgnudge import caches
from django_pgnudge.caches import Mark, Round
from django_pgnudge.caches.rounds import ClearVersion, DeleteKeys, EndTokens, RaiseMark
from django_pgnudge.caches.value_store import ValueStore
from django_pgnudge.errors import CacheError
from django_pgnudge.rules import CacheRef, Deletes

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.redis import Redis

MARK = Mark("mark", "lease", 7, 8)
KEYS = CacheRef("default"), Deletes(keys={"a", "b"})
VERSION = CacheRef("default", 2)


def a_round(**but: Any) -> Round:
    given: dict[str, Any] = {
        "tokens": {"token"}, "deletes": dict([KEYS]), "versions": [VERSION], "mark": MARK,
    }  # fmt: skip
    return Round(**(given | but))


def test_tokens_are_first_and_the_mark_is_last_with_tokens_behind_it() -> None:
    assert [*a_round().steps()] == [
        EndTokens({"token"}), DeleteKeys(*KEYS), ClearVersion(VERSION), RaiseMark(MARK, {"token"}),
    ]  # fmt: skip


def test_what_there_is_nothing_of_is_no_step() -> None:
    assert [*Round().steps()] == []
    assert [*Round(deletes={CacheRef("default"): Deletes()}).steps()] == []
    assert [*Round(mark=MARK).steps()] == [RaiseMark(MARK, ())]


def test_each_cache_runs_it_and_tells_whether_the_mark_stood(each_cache: str) -> None:
    cache = django_caches["default"]
    values = caches.values("default")
    for number, stands in ((7, True), (6, False)):
        cache.set_many({"a": 1, "b": 1, "c": 1})
        values.set("mark", number, 60)
        values.set_text("token", "text")
        mark = Mark("mark", "lease", 7, values.next_mark(7))
        done = caches.run("default", a_round(versions=(), mark=mark))
        assert (done.marked, done.refusals) == (stands, ())
        assert cache.get_many(["a", "b", "c"]) == {"c": 1}
        assert not values.has("token")


@pytest.mark.parametrize("broken", ["delete", "witness"])
def test_a_step_that_fails_ends_the_round(
    each_cache: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = django_caches["default"]
    cache.set("a", 1)

    def fail(*args: Any) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(type(caches.values("default")), broken, fail)
    with pytest.raises(CacheError, match="away"):
        caches.run("default", a_round(versions=()))
    assert cache.get("a") == (1 if broken == "delete" else None), "tokens go before keys"


def test_what_a_backend_refuses_stops_nothing_else(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": str(tmp_path)}}
    told: list[Callable[..., Any]] = []
    witness = ValueStore.witness

    def telling(self: ValueStore, *args: Any) -> Any:
        told.append(witness)
        return witness(self, *args)

    monkeypatch.setattr(ValueStore, "witness", telling)
    cache = django_caches["default"]
    cache.set("a", 1)
    patterns = {CacheRef("default"): Deletes(keys={"a"}, patterns={"p*"})}
    done = caches.run("default", a_round(deletes=patterns))
    assert [(each.ref, each.whole_version) for each in done.refusals] == [
        (CacheRef("default"), False), (VERSION, True),
    ]  # fmt: skip
    assert cache.get("a") is None
    assert told, "the mark is raised all the same"


@pytest.mark.parametrize("but", [{"deletes": {}}, {"versions": ()}])
def test_one_write_takes_neither_a_version_nor_a_pattern(
    but: dict[str, Any], settings: Any, redis_server: Redis
) -> None:
    backend = "django_redis.cache.RedisCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": redis_server.url}}
    pipeline = caches.pipeline("default")
    assert pipeline is not None
    try:
        patterns = {CacheRef("default"): Deletes(keys={"a"}, patterns={"p*"})}
        with pytest.raises(ValueError, match="not for one write"):
            pipeline.pack(a_round(**({"deletes": patterns} | but)))
    finally:
        pipeline.close()
