"""state: one object an alias, replaced as one, and bounded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge import nudged
from django_pgnudge.memo import Memo
from django_pgnudge.reader.state import ReaderState, empty_states, reader_state
from tests.shop.models import Product

if TYPE_CHECKING:
    from django_pgnudge.testing import NudgeFake


def test_each_alias_has_one_state() -> None:
    assert reader_state("default") is reader_state("default")
    assert reader_state("default") is not reader_state("other")
    assert reader_state("other").tables.using == "other"


def test_threads_that_ask_at_once_get_the_same_state() -> None:
    barrier = threading.Barrier(4)

    def make(using: str) -> ReaderState:
        barrier.wait(10)
        return ReaderState(using)

    with empty_states(make), ThreadPoolExecutor(4) as threads:
        found = [threads.submit(reader_state, "default") for _ in range(4)]
        assert len({id(each.result(10)) for each in found}) == 1


def test_states_are_replaced_in_a_block_and_there_again_after_it() -> None:
    before = reader_state("default")
    with empty_states():
        inside = reader_state("default")
        assert inside is not before
        assert inside.tables is not before.tables
        with empty_states():
            assert reader_state("default") is not inside
        assert reader_state("default") is inside
    assert reader_state("default") is before


def test_states_are_there_again_after_a_failure() -> None:
    before = reader_state("default")
    with pytest.raises(ZeroDivisionError), empty_states():
        _ = 1 / 0
    assert reader_state("default") is before


def test_everything_that_grows_with_use_is_bounded() -> None:
    state = ReaderState("default")
    grows = {name for name, value in vars(state).items() if isinstance(value, dict)}
    assert grows == {"values", "plans", "coverages", "scopes", "clocks"}
    assert all(type(vars(state)[name]) is Memo for name in grows)


def test_each_scope_has_its_tables() -> None:
    state = ReaderState("default")
    acme = state.resolver(("acme",))
    assert state.resolver(("acme",)) is acme
    assert state.resolver(("umbrella",)) is not acme
    assert state.resolver(None) is state.tables


def test_tables_that_trust_their_models_are_those_of_every_scope() -> None:
    state = ReaderState("default")
    state.tables.trust_models()
    assert state.resolver(("acme",)) is state.tables


def test_each_cache_and_lease_has_its_clock() -> None:
    state = ReaderState("default")
    assert state.clock(("default", "lease")) is state.clock(("default", "lease"))
    assert state.clock(("default", "lease")) is not state.clock(("fast", "lease"))


def test_a_value_of_a_function_is_kept_once_a_call(nudge_fake: NudgeFake) -> None:
    @nudged(Product)
    def double(number: int) -> int:
        return 2 * number

    assert [double(2), double(2), double(3)] == [4, 4, 6]
    assert len(nudge_fake.state.values) == 2


def test_settings_that_change_make_another_value(nudge_fake: NudgeFake, settings: Any) -> None:
    @nudged(Product)
    def one() -> int:
        return 1

    one()
    settings.PGNUDGE = {"NUDGED": {"CACHES": ["fast"]}}
    nudge_fake.lease()
    one()
    assert {value.alias for value in nudge_fake.state.values.values()} == {"default", "fast"}
