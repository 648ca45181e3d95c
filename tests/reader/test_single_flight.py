"""flights and the lock: a herd computes once, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import caches
from django.db import connections

from django_pgnudge import nudged
from django_pgnudge.reader import protocol
from django_pgnudge.reader.dependencies import DependencyResolver
from django_pgnudge.reader.protocol import token_timeout
from django_pgnudge.reader.single_flight import SingleFlight, flights
from tests.shop.models import Category, Product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django_pgnudge.testing import NudgeFake

HERD = 8


@pytest.fixture(autouse=True)
def nothing_flies_on() -> Iterator[None]:
    caches["default"].clear()
    yield
    assert len(flights) == 0


class Slow:
    """A function that counts its calls and takes its time."""

    def __init__(self, seconds: float = 0.2) -> None:
        self.calls = 0
        self.seconds = seconds
        self.called = asyncio.Event()

    def __call__(self) -> int:
        self.calls += 1
        time.sleep(self.seconds)
        return self.calls

    async def later(self) -> int:
        self.calls += 1
        self.called.set()
        await asyncio.sleep(self.seconds)
        return self.calls


def herd(function: Callable[[], Any], number: int = HERD) -> list[Any]:
    barrier = threading.Barrier(number)

    def one() -> Any:
        barrier.wait()
        try:
            return function()
        finally:
            caches["default"].close()
            connections.close_all()

    with ThreadPoolExecutor(number) as pool:
        return [future.result(20) for future in [pool.submit(one) for _ in range(number)]]


def test_threads_compute_a_value_once(each_cache: str, nudge_fake: NudgeFake) -> None:
    slow = Slow()
    assert herd(lambda: nudged.get_or_set("key", slow, depends_on=[Product])) == [1] * HERD
    assert slow.calls == 1


async def test_tasks_compute_a_value_once(nudge_fake: NudgeFake) -> None:
    slow = Slow()
    reads = [nudged.aget_or_set("key", slow.later, depends_on=[Product]) for _ in range(HERD)]
    assert await asyncio.gather(*reads) == [1] * HERD
    assert slow.calls == 1


def test_processes_compute_a_value_once(
    each_cache: str, nudge_fake: NudgeFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thread stands for a process: it knows only its own flights."""
    local = threading.local()

    class Own(SingleFlight):
        def join_or_start(self, name: Any, *, on_loop: bool) -> Any:
            local.flights = getattr(local, "flights", None) or SingleFlight()
            return local.flights.join_or_start(name, on_loop=on_loop)

    if each_cache == "file":
        pytest.skip("file: add of the file cache is not atomic")
    monkeypatch.setattr("django_pgnudge.reader.value.flights", Own())
    slow = Slow()
    assert herd(lambda: nudged.get_or_set("key", slow, depends_on=[Product])) == [1] * HERD
    assert slow.calls == 1


def test_a_holder_that_died_costs_the_wait_once(nudge_fake: NudgeFake) -> None:
    planned = nudged(Product)(len)._value(((),), {})._plan()
    assert planned is not None
    entry = planned.plan.entry
    caches["default"].set(f"{entry}:lock", "somebody who died", 30)
    began = time.monotonic()
    assert nudged(Product, wait=0.3)(len)(()) == 0
    assert 0.25 < time.monotonic() - began < 3
    began = time.monotonic()
    assert nudged(Product, wait=5)(len)(()) == 0
    assert time.monotonic() - began < 1


def test_the_lock_is_given_back_when_the_function_raises(nudge_fake: NudgeFake) -> None:
    function = nudged(Product)(int)
    with pytest.raises(ValueError, match="invalid literal"):
        function("x")
    planned = function._value(("x",), {})._plan()
    assert planned is not None
    assert caches["default"].get(planned.plan.lock) is None


async def test_the_lock_is_given_back_when_a_task_is_cancelled(nudge_fake: NudgeFake) -> None:
    slow = Slow(30)
    task = asyncio.create_task(nudged.aget_or_set("key", slow.later, depends_on=[Product]))
    await slow.called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    quick = Slow(0)
    async with asyncio.timeout(1):
        assert await nudged.aget_or_set("key", quick.later, depends_on=[Product]) == 1


async def test_a_waiter_that_is_cancelled_stops_nobody(nudge_fake: NudgeFake) -> None:
    slow = Slow(0.3)
    first = asyncio.create_task(nudged.aget_or_set("key", slow.later, depends_on=[Product]))
    await slow.called.wait()
    second = asyncio.create_task(nudged.aget_or_set("key", slow.later, depends_on=[Product]))
    await asyncio.sleep(0.1)
    second.cancel()
    assert await first == 1


def test_what_another_computed_before_a_change_is_not_handed_over(nudge_fake: NudgeFake) -> None:
    """A waiter may have seen the change committed before it asked."""
    reading_old, go_on = threading.Event(), threading.Event()

    def old() -> str:
        reading_old.set()
        go_on.wait(5)
        return "old"

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(nudged.get_or_set, "key", old, depends_on=[Product])
        reading_old.wait(5)
        nudge_fake.changed(Product)
        second = pool.submit(nudged.get_or_set, "key", lambda: "new", depends_on=[Product])
        time.sleep(0.1)
        go_on.set()
        assert (first.result(5), second.result(5)) == ("old", "new")


def test_values_that_need_each_other_do_not_deadlock(nudge_fake: NudgeFake) -> None:
    barrier = threading.Barrier(2)
    seen = threading.local()

    def meet() -> None:
        if not getattr(seen, "met", False):
            seen.met = True
            barrier.wait(5)

    @nudged(Product, wait=30, key=lambda: "a")
    def ring_a() -> int:
        meet()
        return 1 + (0 if getattr(seen, "deep", 0) > 3 else deeper(ring_b))

    @nudged(Product, wait=30, key=lambda: "b")
    def ring_b() -> int:
        meet()
        return 1 + (0 if getattr(seen, "deep", 0) > 3 else deeper(ring_a))

    def deeper(function: Any) -> int:
        seen.deep = getattr(seen, "deep", 0) + 1
        found: int = function()
        return found

    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(ring_a), pool.submit(ring_b)]
        assert all(future.result(20) for future in futures)
    assert time.monotonic() - began < 10


def test_a_nested_value_of_the_same_thread_is_computed(nudge_fake: NudgeFake) -> None:
    @nudged(Product, key=lambda: "outer")
    def outer() -> int:
        return inner() + 1

    @nudged(Product)
    def inner() -> int:
        return 1

    assert (outer(), outer(), inner()) == (2, 2, 1)


def test_a_row_s_token_does_not_pile_up_and_a_table_s_lasts(nudge_fake: NudgeFake) -> None:
    function = nudged(nudged.row(Product, 1), Product, timeout=60)(len)
    prepared = function._value(((),), {}).recipe(on_loop=False)
    assert prepared is not None
    recipe, _ = prepared
    timeouts = {token_timeout(recipe, key) for key in recipe.plan.tokens}
    assert timeouts == {None, protocol.ROW_TOKEN_SECONDS}


# Without a lease nothing is stored, just when PostgreSQL has enough to do.


def test_without_a_lease_one_computes_for_those_who_wait(
    each_cache: str, nudge_fake: NudgeFake
) -> None:
    nudge_fake.no_lease()
    slow = Slow()
    assert herd(lambda: nudged.get_or_set("key", slow, depends_on=[Product])) == [1] * HERD
    assert slow.calls == 1
    assert nudged.get_or_set("key", slow, depends_on=[Product]) == 2, "and nothing was stored"


def test_a_cache_that_is_away_has_one_compute_for_those_who_wait(
    nudge_fake: NudgeFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("gone")

    for name in ("get", "get_many", "set", "add", "delete"):
        monkeypatch.setattr(type(caches["default"]), name, away)
    slow = Slow()
    assert herd(lambda: nudged.get_or_set("key", slow, depends_on=[Product])) == [1] * HERD


async def test_without_a_lease_one_task_computes_for_those_who_wait(nudge_fake: NudgeFake) -> None:
    nudge_fake.no_lease()
    slow = Slow()
    reads = [nudged.aget_or_set("key", slow.later, depends_on=[Product]) for _ in range(HERD)]
    assert await asyncio.gather(*reads) == [1] * HERD


def test_what_is_handed_over_is_each_callers_own(nudge_fake: NudgeFake) -> None:
    nudge_fake.no_lease()
    slow = Slow()
    lists = herd(lambda: nudged.get_or_set("key", lambda: [slow()], depends_on=[Product]))
    assert len({id(each) for each in lists}) == HERD


def test_what_cannot_be_handed_over_is_computed_by_each(nudge_fake: NudgeFake) -> None:
    nudge_fake.no_lease()
    slow = Slow()

    def unpicklable() -> Any:
        slow()
        return threading.Lock()

    herd(lambda: nudged.get_or_set("key", unpicklable, depends_on=[Product]))
    assert slow.calls == HERD


def test_nobody_is_handed_what_is_older_than_a_lease(nudge_fake: NudgeFake, settings: Any) -> None:
    settings.PGNUDGE = {"NUDGED": {"LEASE": 1.0}}
    nudge_fake.no_lease()
    slow = Slow(1.5)
    assert sorted(herd(lambda: nudged.get_or_set("key", slow, depends_on=[Product]), 2)) == [1, 2]


def test_what_was_made_of_an_instance_is_not_handed_to_one_with_another(
    nudge_fake: NudgeFake,
) -> None:
    """It may have been read long before the function was called."""
    slow = Slow()
    name = nudged(Product, key=lambda product: product.pk)(lambda product: (slow(), product.name))
    names = iter(["as it was", "as it is"])
    for lease in (nudge_fake.lease, nudge_fake.no_lease):
        lease()
        names = iter(["as it was", "as it is"])
        made = herd(lambda: name(Product(pk=1, name=next(names))), 2)
        assert {each for _, each in made} == {"as it was", "as it is"}


def test_what_was_made_of_a_nudged_value_is_not_handed_over(
    nudge_fake: NudgeFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value may be as old as a lease by itself."""
    slow = Slow()
    inner = nudged(Category, key=lambda: "inner")(lambda: "inner")
    covered = frozenset({"shop_category", "public.shop_category"})
    monkeypatch.setitem(nudge_fake.state.coverages, "fake", covered)
    inner()
    made = herd(lambda: nudged.get_or_set("key", lambda: (slow(), inner()), depends_on=[Product]))
    assert slow.calls == HERD
    assert {each for _, each in made} == {"inner"}


@pytest.mark.parametrize("is_async", [False, True])
async def test_who_may_not_use_the_cache_when_the_tables_have_been_read_again_waits_for_nobody(
    nudge_fake: NudgeFake, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    may_look = iter([True, False])
    monkeypatch.setattr(nudge_fake.state.sessions, "may_use_cache", lambda *args: next(may_look))
    monkeypatch.setattr(DependencyResolver, "knows", lambda *args: False)
    joined: list[object] = []
    monkeypatch.setattr(SingleFlight, "join_or_start", lambda *args, **options: joined.append(args))
    slow = Slow(0.0)
    if is_async:
        assert await nudged.aget_or_set("key", slow.later, depends_on=[Product]) == 1
    else:
        get = sync_to_async(nudged.get_or_set)
        assert await get("key", slow, depends_on=[Product]) == 1
    assert joined == []
