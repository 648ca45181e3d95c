"""The protocol, looked at in every state within bounds; `tests.model` says what it is."""

from __future__ import annotations

import pytest

from tests.model.explorer import explore
from tests.model.scenarios import REMOVALS, SCENARIOS, Removal, Scenario, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda it: it.name)
def test_nothing_is_ever_served_too_old(scenario: Scenario) -> None:
    found = run(scenario.bounds)
    assert found.trace is None, found.told()


@pytest.mark.parametrize("removal", REMOVALS, ids=lambda it: it.guard)
def test_without_a_guard_something_is_served_too_old(removal: Removal) -> None:
    found = run(removal.bounds)
    print(found.told())
    assert found.trace is not None


@pytest.mark.parametrize("number", ["B1", "B3", "B8", "C1"])
def test_each_failure_that_was_seen_is_found(number: str) -> None:
    assert any(removal.found_as == number for removal in REMOVALS)


def test_the_explorer_finds_a_shortest_way() -> None:
    found = explore(0, lambda n: iter([("one", n + 1), ("ten", n + 10)]), lambda n: n == 21)
    assert [words for words, _ in found.trace or ()] == ["one", "ten", "ten"]


def test_the_explorer_sees_every_state_once() -> None:
    found = explore(0, lambda n: iter([("on", (n + 1) % 7), ("back", 0)]), lambda n: n > 6)
    assert (found.trace, found.states, found.steps) == (None, 7, 14)
