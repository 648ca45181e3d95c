"""entries: when an answer lets a value be served; driving: in which order it is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache.backends.memcached import BaseMemcachedCache

from django_pgnudge.fresh.driving import _get_many
from django_pgnudge.fresh.entries import Hit, Miss, Plan, Stamp, judge, pack
from django_pgnudge.fresh.keys import Dependency, Lease, Names

NAMES = Names("default")
PLAN = Plan.of(
    NAMES,
    NAMES.entry("value"),
    frozenset({Dependency("public.t"), Dependency("public.u", (7,)), Dependency("own")}),
)
STAMP = Stamp(tuple(f"token {key}" for key in PLAN.tokens), "digest")


def answer(**changes: Any) -> dict[str, Any]:
    found = {
        NAMES.lease: Lease("grant", "digest").packed(),
        NAMES.grants[1]: "grant",
        PLAN.entry: pack(STAMP, None),
        **dict(zip(PLAN.tokens, STAMP.tokens, strict=True)),
    }
    return {key: value for key, value in {**found, **changes}.items() if value is not None}


def test_a_value_is_served_if_everything_agrees() -> None:
    assert judge(PLAN, answer()) == Hit(None)
    assert judge(PLAN, answer(**{NAMES.lease: ["grant", "digest"]})) == Hit(None)
    assert judge(PLAN, answer(**{PLAN.entry: list(pack(STAMP, 0))})) == Hit(0)
    assert PLAN.tables == {"public.t", "public.u"}


@pytest.mark.parametrize("token", PLAN.tokens)
def test_a_token_that_is_missing_or_another_ends_it(token: str) -> None:
    assert judge(PLAN, answer(**{token: None})) == Miss("digest", (token,), None)
    changed = judge(PLAN, answer(**{token: "another"}))
    assert isinstance(changed, Miss)
    assert changed.stamp is not None


@pytest.mark.parametrize(
    "changes",
    [
        {NAMES.lease: None},
        {NAMES.grants[1]: None},
        {NAMES.grants[1]: "later"},
        {NAMES.lease: "nonsense"},
        {NAMES.lease: Lease("earlier", "digest").packed()},
    ],
)
def test_without_a_lease_whose_grant_lasts_nothing_is_served_or_kept(changes: Any) -> None:
    state = judge(PLAN, answer(**changes))
    assert isinstance(state, Miss)
    assert (state.coverage, state.stamp) == (None, None)


def test_a_stream_of_another_coverage_vouches_for_nothing_kept_before() -> None:
    assert isinstance(judge(PLAN, answer(**{NAMES.lease: Lease("grant", "other").packed()})), Miss)


@pytest.mark.parametrize("entry", ["nonsense", ("pgnudge0", (), "", 1), (1, 2), b"x", 7])
def test_an_entry_of_another_making_is_no_hit(entry: Any) -> None:
    assert isinstance(judge(PLAN, answer(**{PLAN.entry: entry})), Miss)


def test_the_lease_is_asked_before_the_tokens() -> None:
    """A token there after the lease was read has outlived what the lease speaks of."""
    asked = PLAN.asked()
    assert asked[:3] == [NAMES.lease, *NAMES.grants]
    assert set(asked[3:]) == {PLAN.entry, *PLAN.tokens}


def test_several_memcached_servers_are_asked_for_the_lease_first() -> None:
    class Memcached(BaseMemcachedCache):
        def __init__(self, servers: list[str]) -> None:
            self._servers = servers
            self.asked: list[list[str]] = []

        def get_many(self, keys: Any, version: int | None = None) -> dict[str, Any]:
            self.asked.append(list(keys))
            return dict.fromkeys(keys, 1)

    one, two = Memcached(["a"]), Memcached(["a", "b"])
    keys = PLAN.asked()
    assert _get_many(one, keys) == _get_many(two, keys) == dict.fromkeys(keys, 1)
    assert one.asked == [keys]
    assert two.asked == [keys[:3], keys[3:]]
