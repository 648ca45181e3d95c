"""decorator: what is cached, under which key, at which price, on each backend."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import time
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import caches
from django.db import connections
from django.utils.safestring import SafeString
from redis import Redis as Client

from django_pgnudge import nudged
from django_pgnudge.caches import values as cache_values
from django_pgnudge.errors import ConfigError
from django_pgnudge.log import forget_logged
from django_pgnudge.reader.keys import Lease
from django_pgnudge.reader.state import MOST_COVERAGES
from django_pgnudge.testing import faked
from tests.fix_nudged import REDIS, count_calls
from tests.shop.models import Category, Product

if TYPE_CHECKING:
    from servers.redis import Redis

    from django_pgnudge.testing import NudgeFake


@pytest.fixture(autouse=True)
def say_everything_again() -> None:
    forget_logged()


class Counter:
    """A function that returns what it is told, and how often it was called."""

    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.calls: list[Any] = []

    def __call__(self, *args: Any) -> Any:
        self.calls.append(args)
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, Exception):
            raise result
        return result


def test_a_hit_asks_the_cache_once(
    each_cache: str, nudge_fake: NudgeFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = Counter("value")
    first = nudged.get_or_set("key", default, depends_on=[Product, "legacy.price_list", "own"])
    asked = count_calls(monkeypatch)
    again = nudged.get_or_set("key", default, depends_on=[Product, "legacy.price_list", "own"])
    assert (first, again, len(default.calls)) == ("value", "value", 1)
    assert asked == ["exchange" if each_cache in REDIS else "get_many"]


async def test_a_hit_of_async_code_asks_the_cache_once(
    each_cache: str, nudge_fake: NudgeFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = Counter("value")
    await nudged.aget_or_set("key", default, depends_on=[Product])
    asked = count_calls(monkeypatch)
    assert await nudged.aget_or_set("key", default, depends_on=[Product]) == "value"
    assert asked == ["exchange" if each_cache in REDIS else "get_many"]
    assert len(default.calls) == 1
    await sync_to_async(connections.close_all)()  # of the thread that asked for the task


def test_a_change_a_resync_and_a_lost_lease_end_a_value(
    each_cache: str, nudge_fake: NudgeFake
) -> None:
    default = Counter(1, 2, 3, 4, 5, 6)

    def read() -> Any:
        return nudged.get_or_set("key", default, depends_on=[Product])

    assert [read(), read()] == [1, 1]
    nudge_fake.changed(Category)
    assert read() == 1
    nudge_fake.changed(Product)
    assert [read(), read()] == [2, 2]
    nudge_fake.resync()
    assert [read(), read()] == [3, 3]
    nudge_fake.no_lease()
    assert [read(), read()] == [4, 5]
    nudge_fake.lease()
    assert [read(), read()] == [3, 3]


def test_a_row_is_ended_by_its_own_change_and_by_a_bulk_change(
    each_cache: str, nudge_fake: NudgeFake
) -> None:
    default = Counter(1, 2, 3)

    def read() -> Any:
        return nudged.get_or_set("key", default, depends_on=[nudged.row(Product, 7)])

    assert [read(), read()] == [1, 1]
    nudge_fake.changed(Product, pk=8)
    assert read() == 1
    nudge_fake.changed(Product, pk=7)
    assert [read(), read()] == [2, 2]
    nudge_fake.changed(Product)
    assert read() == 3


def test_tokens_are_taken_before_the_function_runs(each_cache: str, nudge_fake: NudgeFake) -> None:
    """The change comes while the function runs, after it has read."""
    results = iter(["old", "new"])

    def slow() -> str:
        found = next(results)
        if found == "old":
            nudge_fake.changed(Product)
        return found

    assert nudged.get_or_set("key", slow, depends_on=[Product]) == "old"
    assert nudged.get_or_set("key", slow, depends_on=[Product]) == "new"


@pytest.mark.parametrize("value", [None, 0, "", False, [], {}], ids=repr)
def test_none_and_false_values_are_kept(nudge_fake: NudgeFake, value: Any) -> None:
    default = Counter(value)
    for _ in range(2):
        assert nudged.get_or_set("key", default, depends_on=[Product]) == value
    assert len(default.calls) == 1


def test_exceptions_are_not_kept(nudge_fake: NudgeFake) -> None:
    default = Counter(LookupError("once"), "value")
    with pytest.raises(LookupError, match="once"):
        nudged.get_or_set("key", default, depends_on=[Product])
    assert nudged.get_or_set("key", default, depends_on=[Product]) == "value"


def test_a_broken_cache_means_computing(
    nudge_fake: NudgeFake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("gone")

    for name in ("get_many", "set", "add", "delete"):
        monkeypatch.setattr(type(caches["default"]), name, fail)
    default = Counter("value")
    for _ in range(3):
        assert nudged.get_or_set("key", default, depends_on=[Product], wait=0.1) == "value"
    assert len(default.calls) == 3
    assert caplog.text.count("cache 'default' failed") == 1
    monkeypatch.undo()
    nudge_fake.lease()


@pytest.mark.parametrize("name", ["set", "add", "delete"])
def test_a_cache_that_breaks_on_the_way_means_computing(
    nudge_fake: NudgeFake, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("gone")

    monkeypatch.setattr(type(caches["default"]), name, fail)
    assert nudged.get_or_set("key", Counter("v"), depends_on=[Product], wait=0.1) == "v"
    monkeypatch.undo()


def test_a_value_that_cannot_be_pickled_is_returned_with_a_warning(
    nudge_fake: NudgeFake, caplog: pytest.LogCaptureFixture
) -> None:
    @nudged(Product)
    def lines() -> Any:
        return (line for line in "ab")

    assert list(lines()) == ["a", "b"]
    assert list(lines()) == ["a", "b"]
    assert "lines returned a value that cannot be cached" in caplog.text


def test_a_table_that_is_not_covered_is_named_once(
    nudge_fake: NudgeFake, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(nudge_fake.state.coverages, "fake", frozenset({"public.shop_category"}))
    default = Counter("value")
    for _ in range(2):
        nudged.get_or_set("key", default, depends_on=[Product])
    assert len(default.calls) == 2
    assert caplog.text.count("does not carry public.shop_product") == 1
    for _ in range(2):
        nudged.get_or_set("own", default, depends_on=["prices", Category])
    assert len(default.calls) == 3


def test_a_process_remembers_few_of_the_lists_of_what_a_stream_carries(
    nudge_fake: NudgeFake,
) -> None:
    home = cache_values("default")
    covered = [each.payload for each in nudge_fake.tables.dependencies([Product]) or ()]
    for number in range(3 * MOST_COVERAGES):
        lease = Lease(home.now(nudge_fake.names.lease), 60.0, "epoch", f"digest{number}", "daemon")
        home.set_text(nudge_fake.names.lease, lease.text())
        home.set(nudge_fake.names.coverage(lease.coverage), covered, None)
        reads = [nudged.get_or_set("key", lambda n=n: n, depends_on=[Product]) for n in (1, 2)]
        assert reads == [1, 1]
        nudged.delete("key")
    assert len(nudge_fake.state.coverages) <= MOST_COVERAGES


def test_a_cache_without_a_lease_of_its_own_is_named(
    nudge_fake: NudgeFake, caplog: pytest.LogCaptureFixture
) -> None:
    default = Counter("value")
    nudged.get_or_set("key", default, depends_on=[Product], cache="fast")
    assert 'PGNUDGE["NUDGED"]["CACHES"]' in caplog.text


def test_no_lease_is_said_once_in_a_while(
    nudge_fake: NudgeFake, caplog: pytest.LogCaptureFixture
) -> None:
    nudge_fake.no_lease()
    for _ in range(3):
        nudged.get_or_set("key", Counter(1), depends_on=[Product])
    assert caplog.text.count("there is no lease") == 1


# Keys.


calls: list[Any] = []
"""What the functions below were called with: a function that closes over a list has no name."""


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


def test_arguments_are_the_key_however_they_are_passed(nudge_fake: NudgeFake) -> None:
    @nudged(Product)
    def price(sku: str, *more: Any, currency: str = "EUR", **rest: int) -> int:
        calls.append(sku)
        return len(calls)

    assert price("a") == price(sku="a") == price("a", currency="EUR") == 1
    assert price("a", 1) == 2
    assert price("a", x=1, y=2) == price("a", y=2, x=1) == 3
    assert price("a", None, x=1) == 4
    assert price("a", ("x", 1)) == 5


@nudged(Product)
def same(x: Any) -> Any:
    return x


@pytest.mark.parametrize("alike", [(1, True, 1.0), (0, False, -0.0, 0.0), ("a", SafeString("a"))])
def test_a_call_is_remembered_for_its_own_arguments_alone(
    nudge_fake: NudgeFake, alike: tuple[Any, ...]
) -> None:
    """What Python takes for equal was remembered as one call, were it not for the types."""
    for _ in range(2):
        assert [repr(same(each)) for each in alike] == [repr(each) for each in alike]
        assert [type(same(each)) for each in alike] == [type(each) for each in alike]


@pytest.mark.parametrize("argument", [object(), {}, Product(), iter(())], ids=type)
def test_an_argument_that_is_no_key_is_refused_with_the_way_out(
    nudge_fake: NudgeFake, argument: Any
) -> None:
    with pytest.raises(TypeError, match=r"key=|not saved"):
        same(argument)
    assert nudged(Product, key=lambda x: "k")(lambda x: "made")(argument) == "made"


class Shop:
    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0

    @nudged(Product, key=lambda self, sku: (self.name, sku))
    def price(self, sku: str) -> int:
        self.calls += 1
        return self.calls

    @classmethod
    @nudged(Product)
    def everything(cls) -> str:
        return cls.__name__

    @staticmethod
    @nudged(Product)
    def nothing() -> str:
        return "nothing"


def test_methods_are_cached_too(nudge_fake: NudgeFake) -> None:
    one, two = Shop("one"), Shop("two")
    assert [one.price("a"), one.price("a"), two.price("a"), one.price(sku="a")] == [1, 1, 1, 1]
    one.price.invalidate("a")
    assert [one.price("a"), two.price("a")] == [2, 1]
    assert one.price.refresh("a") == 3
    assert one.price("a") == 3
    everything: Any = Shop.everything
    assert (everything(), Shop.nothing()) == ("Shop", "nothing")


async def test_coroutine_functions_stay_what_they_are(nudge_fake: NudgeFake) -> None:
    @nudged(Product)
    async def price(sku: str) -> Any:
        """The price."""
        calls.append(sku)

    from asgiref.sync import iscoroutinefunction

    assert iscoroutinefunction(price)
    assert (price.__name__, inspect.getdoc(price)) == ("price", "The price.")
    assert await price("a") is await price("a") is None
    assert calls == ["a"]
    await price.ainvalidate("a")
    await price("a")
    await price.refresh("a")
    assert calls == ["a"] * 3
    await price.__wrapped__("b")


def test_dependencies_may_follow_from_the_arguments(nudge_fake: NudgeFake) -> None:
    @nudged(depends_on=lambda pk: [nudged.row(Product, pk)])
    def name(pk: int) -> int:
        calls.append(pk)
        return len(calls)

    assert [name(1), name(2), name(1)] == [1, 2, 1]
    nudge_fake.changed(Product, pk=1)
    assert [name(1), name(2)] == [3, 2]


@pytest.mark.parametrize("wrong", [(7,), ("",), (None,)])
def test_nothing_to_depend_on_is_refused_where_it_is_written(wrong: Any) -> None:
    with pytest.raises(ConfigError):
        nudged(*wrong)


def test_generators_are_refused_where_they_are_written() -> None:
    with pytest.raises(ConfigError, match="Return a list"):

        @nudged(Product)
        def lines() -> Any:
            yield 1


def test_a_version_is_no_part_of_the_key(nudge_fake: NudgeFake) -> None:
    names = [(None, "a"), (1, "a"), ("1", "a"), ("None", "a"), ("1:b", "c"), (1, "b:c")]
    found = [
        nudged.get_or_set(key, lambda found=(version, key): found, depends_on=[Product],
                          version=version)  # type: ignore[arg-type]
        for version, key in names
    ]  # fmt: skip
    assert found == names


def test_versions_and_deletion(nudge_fake: NudgeFake) -> None:
    default = Counter(1, 2, 3)
    assert nudged.get_or_set("key", default, depends_on=[Product]) == 1
    assert nudged.get_or_set("key", default, depends_on=[Product], version=2) == 2
    nudged.delete("key", version=2)
    assert nudged.get_or_set("key", default, depends_on=[Product]) == 1
    assert nudged.get_or_set("key", default, depends_on=[Product], version=2) == 3


def test_the_event_loop_s_thread_is_never_made_to_wait(nudge_fake: NudgeFake) -> None:
    async def main() -> None:
        value = nudged(Product)(len)._value(((),), {})
        planned = value._plan()
        assert planned is not None
        caches["default"].set(planned.plan.lock, "held", 30)
        began = time.monotonic()
        assert nudged(Product)(len)(()) == 0
        assert time.monotonic() - began < 1

    asyncio.run(main())


FOREIGN = [b"\xff\xfe", b"x", b"12", pickle.dumps({1}), pickle.dumps(None), b"pgnudge2 x\0\x80"]


@pytest.mark.parametrize("backend", ["django_redis", "redis"])
@pytest.mark.parametrize("bytes_", FOREIGN)
def test_bytes_that_are_not_ours_are_a_miss_and_overwritten(
    backend: str,
    bytes_: bytes,
    redis_server: Redis,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = (
        "django_redis.cache" if backend == "django_redis" else "django.core.cache.backends.redis"
    )
    settings.CACHES = {"default": {"BACKEND": f"{module}.RedisCache", "LOCATION": redis_server.url}}
    with faked() as fake:
        default = Counter("value")

        def read() -> Any:
            return nudged.get_or_set("key", default, depends_on=[Product])

        def overwrite(*parts: str) -> None:
            with Client.from_url(redis_server.url) as client:
                for key in client.scan_iter():
                    if any(f":{part}" in key.decode() for part in parts):
                        client.set(key, bytes_)

        assert (read(), read(), len(default.calls)) == ("value", "value", 1)
        overwrite("value:")
        assert (read(), read(), len(default.calls)) == ("value", "value", 2)
        overwrite("table:")
        assert (read(), read(), len(default.calls)) == ("value", "value", 3)
        assert caplog.text == ""
        overwrite("lease")
        assert (read(), len(default.calls)) == ("value", 4)
        assert "no lease" in caplog.text
        assert "Is runnudge running" not in caplog.text
        fake.lease()
        assert (read(), len(default.calls)) == ("value", 4)
    caches["default"].close()
