"""entries: when an answer lets a value be served; clock: when a lease counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from django_pgnudge.caches import Answer, Entry
from django_pgnudge.reader.entries import NOT_BELIEVED, Hit, Miss, Plan, Stamp, judge
from django_pgnudge.reader.keys import Dependency, Lease, Names
from django_pgnudge.reader.lease_clock import LeaseClock

NAMES = Names("identity")
LEASE = Lease(100.0, 10.0, "epoch", "digest", "daemon")
DEPENDENCIES = frozenset({Dependency("public.t"), Dependency("public.u", (7,)), Dependency("own")})


def plan() -> Plan:
    return Plan.of(NAMES, NAMES.entry("value"), DEPENDENCIES)


TOKENS = {key: f"{number:024x}" for number, key in enumerate(plan().tokens)}
STAMP = Stamp("epoch", "digest", TOKENS)


def answer(
    *,
    lease: str | None = LEASE.text(),
    stamp: Stamp | str = STAMP,
    now: float = 105.0,
    foreign: frozenset[str] = frozenset(),
    load: Any = lambda: "value",
    tokens: Mapping[str, str | None] = MappingProxyType({}),
) -> Answer:
    texts = {NAMES.lease: lease, **TOKENS, **tokens}
    entry = Entry(stamp if isinstance(stamp, str) else stamp.text(), load)
    present = {key: text for key, text in texts.items() if text is not None}
    return Answer(present, entry, now, True, foreign)


def judged(given: Answer | None, *, of: Plan | None = None) -> Any:
    return judge(of or plan(), given, lambda lease, now, one_clock: True)


def test_a_value_is_served_if_everything_agrees() -> None:
    assert judged(answer()) == Hit("value", STAMP)
    assert plan().tables == {"public.t", "public.u"}


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_that_is_missing_or_another_ends_it(token: str) -> None:
    assert judged(answer(tokens={token: None})) == Miss(LEASE, (token,))
    changed = judged(answer(tokens={token: "f" * 24}))
    assert changed.stamp == Stamp("epoch", "digest", {**TOKENS, token: "f" * 24})


@pytest.mark.parametrize("token", TOKENS)
def test_what_is_no_token_is_made_anew(token: str) -> None:
    assert judged(answer(tokens={token: "nonsense"})).foreign == (token,)
    other = judged(answer(tokens={token: None}, foreign=frozenset({token})))
    assert (other.missing, other.foreign) == ((token,), (token,))


@pytest.mark.parametrize("now", [110.1, 1000.0])
def test_a_lease_that_has_ended_serves_and_keeps_nothing_however_late_it_came(now: float) -> None:
    state = judged(answer(now=now))
    assert (state.lease, state.stamp) == (None, None)
    assert "ended" in state.why


@pytest.mark.parametrize(
    ("lease", "why"),
    [
        (None, "no lease"),
        ("nonsense", "no lease"),
        ("lease2 x y epoch digest daemon", "no lease"),
        (f"{LEASE.text()} more", "no lease"),
    ],
)
def test_what_is_no_lease_serves_and_keeps_nothing(lease: str | None, why: str) -> None:
    state = judged(answer(lease=lease))
    assert (state.lease, state.stamp) == (None, None)
    assert why in state.why


def test_a_lease_that_cannot_be_believed_serves_and_keeps_nothing() -> None:
    asked: list[tuple[Lease, float, bool]] = []

    def believes(lease: Lease, now: float, one_clock: bool) -> bool:
        asked.append((lease, now, one_clock))
        return False

    assert judge(plan(), answer(), believes) == Miss(None, why=NOT_BELIEVED)
    assert asked == [(LEASE, 105.0, True)]


def test_a_cache_without_an_answer_serves_and_keeps_nothing() -> None:
    assert judged(None).lease is None


@pytest.mark.parametrize("changes", [{"epoch": "other"}, {"coverage": "other"}])
def test_a_lease_of_another_epoch_or_coverage_vouches_for_nothing_kept_before(changes: Any) -> None:
    state = judged(answer(lease=replace(LEASE, **changes).text()))
    assert isinstance(state, Miss)
    assert state.stamp is not None


@pytest.mark.parametrize(
    "stamp", ["nonsense", "", " ", "epoch digest", "epoch digest x=y", "=" * 9]
)
def test_an_entry_of_another_making_is_no_hit(stamp: str) -> None:
    assert isinstance(judged(answer(stamp=stamp)), Miss)


def test_a_value_that_cannot_be_read_is_no_hit() -> None:
    def gone() -> Any:
        raise ModuleNotFoundError

    state = judged(answer(load=gone))
    assert isinstance(state, Miss)
    assert state.stamp == STAMP


def test_the_lease_is_asked_before_the_tokens() -> None:
    """A token there after the lease was read has outlived what the lease speaks of."""
    asked = plan().question.keys()
    assert asked[:2] == [NAMES.lease, plan().entry]
    assert set(asked[2:]) == set(TOKENS)


def test_an_entry_that_stands_on_more_is_served_once_all_of_it_was_asked_for() -> None:
    mine, inner = plan(), {NAMES.table("public.inner"): "a" * 24}
    wider = Stamp("epoch", "digest", {**TOKENS, **inner})
    first = judged(answer(stamp=wider), of=mine)
    assert set(first.more) == set(wider.tokens)
    mine.ask_for(first.more)
    assert set(mine.question.keys()) == {NAMES.lease, mine.entry, *wider.tokens}
    assert judged(answer(stamp=wider), of=mine).more == ()
    assert judged(answer(stamp=wider, tokens=inner), of=mine) == Hit("value", wider)
    ended: dict[str, str | None] = dict.fromkeys(inner, "b" * 24)
    assert judged(answer(stamp=wider, tokens=ended), of=mine).stamp == STAMP


@pytest.mark.parametrize("added", TOKENS)
def test_an_entry_that_stands_on_less_than_it_is_asked_for_is_not_served(added: str) -> None:
    """As one that was stored before a deploy that named another table."""
    less = Stamp("epoch", "digest", {key: TOKENS[key] for key in TOKENS if key != added})
    assert judged(answer(stamp=less, tokens={added: None})) == Miss(LEASE, (added,))
    assert judged(answer(stamp=less)).stamp == STAMP


def test_what_was_read_of_an_answer_before_does_not_vouch_for_a_token_that_is_not_there() -> None:
    """Another thread may have the plan ask for others meanwhile, just as many."""
    mine = plan()
    token, *_ = mine.tokens
    others = {key: text for key, text in TOKENS.items() if key != token} | {"more": "e" * 24}
    given = answer(tokens={token: None, "more": "e" * 24}, stamp=Stamp("epoch", "digest", others))
    mine.ask_for(["more"])
    assert not isinstance(judged(given, of=mine), Hit)
    mine.ask_for([])
    assert not isinstance(judged(given, of=mine), Hit)


def test_stamps_that_contradict_each_other_make_none() -> None:
    key = next(iter(TOKENS))
    assert STAMP.with_others([Stamp("epoch", "digest", {key: TOKENS[key], "x": "y"})]) == Stamp(
        "epoch", "digest", {**TOKENS, "x": "y"}
    )
    for other in (
        Stamp("epoch", "digest", {key: "f" * 24}),
        Stamp("other", "digest", {}),
        Stamp("epoch", "other", {}),
    ):
        assert STAMP.with_others([other]) is None


# When a lease counts.


def at(proven: float) -> Lease:
    return replace(LEASE, proven=proven)


def test_by_one_clock_a_lease_counts_at_once() -> None:
    assert LeaseClock().believes(at(100), 101, True, skew=1)


def test_a_lease_from_the_future_never_counts() -> None:
    """Once its time has come by this clock, nobody knows how old it is."""
    sight = LeaseClock()
    assert sight.believes(at(90), 91, True, skew=1)
    assert not sight.believes(at(160), 100, True, skew=1)
    assert not sight.believes(at(160), 159.5, True, skew=1)
    assert not sight.believes(at(160), 165, True, skew=1)
    assert not sight.believes(at(90), 165, True, skew=1)
    assert sight.believes(at(165), 166, True, skew=1)


def test_by_a_clock_of_its_own_a_reader_waits_for_a_renewal() -> None:
    """A clock that is late would make the last lease of a dead daemon look young."""
    sight = LeaseClock()
    for now in (101, 105, 109):
        assert not sight.believes(at(100), now, False, skew=1)
    assert sight.believes(at(102), 105, False, skew=1)
    assert sight.believes(at(102), 109, False, skew=1)
    assert not sight.believes(at(99), 100, False, skew=1)
