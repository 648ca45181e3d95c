"""The protocol as a state machine: the reader's own code, a modelled cache, daemon and writer.

Time is a number. A value is the version of the row when it was queried, and a value served is too
old if that version had been replaced more than a lease ago. Readers are driven step by step, so
that anything may happen between two of their steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from django_pgnudge.fresh.entries import Plan
from django_pgnudge.fresh.flights import Flights
from django_pgnudge.fresh.keys import Dependency, Lease, Names
from django_pgnudge.fresh.reading import Recipe, read, store_entry
from django_pgnudge.fresh.steps import Add, Begin, Compute, Delete, GetMany, Join, Set, Sleep

LEASE = 10.0
NAMES = Names("default")
PAYLOAD = "public.row"
PLAN = Plan.of(NAMES, NAMES.entry("value"), frozenset({Dependency(PAYLOAD)}))
MARK = NAMES.mark("daemon")

SELDOM = st.sampled_from([1, 2, 3, 0])
"""What undoes everything else must not be what happens most."""


class Memory:
    """A cache: values with an end."""

    def __init__(self) -> None:
        self.now = 0.0
        self.held: dict[str, tuple[Any, float | None]] = {}

    def get(self, key: str) -> Any:
        value, end = self.held.get(key, (None, None))
        return value if end is None or end > self.now else None

    def set(self, key: str, value: Any, timeout: float | None = None) -> None:
        self.held[key] = value, None if timeout is None else self.now + timeout

    def add(self, key: str, value: Any, timeout: float | None = None) -> bool:
        if self.get(key) is not None:
            return False
        self.set(key, value, timeout)
        return True

    def delete(self, key: str) -> None:
        self.held.pop(key, None)

    def get_many(self, keys: list[str]) -> dict[str, Any]:
        return {key: found for key in keys if (found := self.get(key)) is not None}


@dataclass(eq=False)
class Reader:
    steps: Any
    started: float
    step: Any = None
    queried: Any = None
    result: Any = None
    done: bool = False


@dataclass
class Daemon:
    """Deletes what it has heard of, then renews its lease: each step may be late."""

    heard: int = 0
    deleted: int = 0
    grants: int = 0
    rounds: int = 0
    proving: tuple[str, int] | None = None
    alive: bool = True
    must_resync: bool = True
    marks: list[int] = field(default_factory=list)


class Protocol(RuleBasedStateMachine):
    """``tokens`` or ``lease`` off: the machine must then find a value too old."""

    tokens = True
    lease = True

    def __init__(self) -> None:
        super().__init__()
        self.cache = Memory()
        self.saved = dict(self.cache.held)
        self.version = 0
        self.replaced: dict[int, float] = {}
        self.readers: list[Reader] = []
        self.daemon = Daemon()

    # The writer.

    @rule()
    def commit(self) -> None:
        self.replaced[self.version] = self.cache.now
        self.version += 1

    # Time, and what may befall a cache.

    @rule(seconds=st.sampled_from([0.5, 2.0, 4.0, 9.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.cache.now += seconds

    @rule(data=st.data(), now=SELDOM)
    def a_key_is_evicted(self, data: st.DataObject, now: int) -> None:
        if self.cache.held and now == 0:
            self.cache.delete(data.draw(st.sampled_from(sorted(self.cache.held))))

    @rule()
    def memory_is_saved(self) -> None:
        self.saved = dict(self.cache.held)

    @rule(empty=st.booleans(), now=SELDOM)
    def memory_is_lost(self, empty: bool, now: int) -> None:
        """The server restarts, with nothing or with what it had saved; ends go on counting."""
        if now == 0:
            self.cache.held = {} if empty else dict(self.saved)

    # The daemon.

    @rule(now=SELDOM)
    def daemon_dies(self, now: int) -> None:
        self.daemon.alive = self.daemon.alive and now != 0

    @rule()
    def daemon_starts(self) -> None:
        if not self.daemon.alive:
            grants = self.daemon.grants
            self.daemon = Daemon(heard=self.version, deleted=self.version, grants=grants)

    @rule()
    def daemon_hears(self) -> None:
        self.daemon.heard = self.version

    @rule()
    def daemon_deletes(self) -> None:
        daemon = self.daemon
        if not daemon.alive:
            return
        if daemon.must_resync:
            self.cache.delete(NAMES.epoch)
            daemon.must_resync = False
        elif self.cache.get(MARK) != daemon.rounds:
            self.cache.delete(NAMES.epoch)
        if daemon.deleted < daemon.heard:
            self.cache.delete(NAMES.table(PAYLOAD))
        daemon.deleted = daemon.heard
        daemon.rounds += 1
        self.cache.set(MARK, daemon.rounds)

    @rule()
    def daemon_begins_a_proof(self) -> None:
        daemon = self.daemon
        if daemon.alive and not daemon.must_resync:
            daemon.grants += 1
            grant = f"grant {daemon.grants}"
            self.cache.set(NAMES.grants[daemon.grants % 2], grant, LEASE)
            # Everything committed by now must have been deleted before the lease says so.
            daemon.proving = grant, self.version

    @rule()
    def daemon_renews(self) -> None:
        daemon = self.daemon
        if not daemon.alive or daemon.proving is None:
            return
        grant, version = daemon.proving
        if daemon.deleted >= version and self.cache.get(MARK) == daemon.rounds:
            self.cache.set(NAMES.lease, Lease(grant, "all").packed())
            daemon.proving = None

    @rule(seconds=st.sampled_from([0.0, 3.0]))
    def daemon_does_its_round(self, seconds: float) -> None:
        self.daemon_begins_a_proof()
        self.daemon_hears()
        self.daemon_deletes()
        self.cache.now += seconds
        self.daemon_renews()

    # Readers.

    @rule()
    def somebody_reads(self) -> None:
        self.reader_arrives()
        reader = self.readers[-1]
        while not reader.done:
            self._one_step(reader)

    @rule()
    def reader_arrives(self) -> None:
        recipe = Recipe(
            plan=PLAN, alias="default", timeout=None, lifetime=None, wait=0.0, on_loop=False,
            coverages={"all": frozenset({PAYLOAD})}, may_store=lambda coverage: True,
            vouch=lambda stamp: True, store=store_entry,
        )  # fmt: skip
        reader = Reader(read(recipe, Flights()), self.cache.now)
        reader.step = next(reader.steps)
        self.readers.append(reader)

    @rule()
    def somebody_is_overtaken(self) -> None:
        """The change and the daemon's round come after the query and before the value is kept."""
        self.reader_arrives()
        reader = self.readers[-1]
        while not reader.done and reader.queried is None:
            self._one_step(reader)
        self.commit()
        self.daemon_does_its_round(0.0)
        while not reader.done:
            self._one_step(reader)

    @rule(data=st.data(), to_the_end=st.booleans())
    def reader_goes_on(self, data: st.DataObject, to_the_end: bool) -> None:
        waiting = [reader for reader in self.readers if not reader.done]
        if waiting:
            reader = data.draw(st.sampled_from(waiting))
            self._one_step(reader)
            while to_the_end and not reader.done:
                self._one_step(reader)

    def _one_step(self, reader: Reader) -> None:
        try:
            reader.step = reader.steps.send(self._perform(reader, reader.step))
        except StopIteration as end:
            reader.done, value = True, end.value
            self.readers.remove(reader)
            if reader.queried is None:
                self._check(value)

    def _perform(self, reader: Reader, step: Any) -> Any:
        cache = self.cache
        match step:
            case Begin() | GetMany():
                found = cache.get_many(step.keys)
                if not self.tokens:
                    found.update(dict.fromkeys(PLAN.tokens, "same"))
                if not self.lease:
                    found[NAMES.lease] = Lease("for ever", "all").packed()
                    found[NAMES.grants[0]] = "for ever"
                return found
            case Add():
                return cache.add(step.key, step.value, step.timeout)
            case Set():
                return cache.set(step.key, step.value)
            case Delete():
                return cache.delete(step.key)
            case Compute():
                reader.queried = self.version
                return self.version
            case Join() | Sleep():
                return True
        raise AssertionError(step)

    def _check(self, served: int) -> None:
        """A hit: the version served was the row's, less than a lease ago."""
        replaced = self.replaced.get(served)
        assert replaced is None or replaced > self.cache.now - LEASE, (served, replaced)


class WithoutTokens(Protocol):
    tokens = False


class WithoutLease(Protocol):
    lease = False


def run(machine: type[Protocol], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=60,
            deadline=None,
            derandomize=True,
            database=None,
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        ),
    )


def test_no_value_served_is_older_than_a_lease() -> None:
    run(Protocol, 400)


@pytest.mark.parametrize("machine", [WithoutTokens, WithoutLease])
def test_the_model_finds_values_too_old_when_a_safeguard_is_off(machine: type[Protocol]) -> None:
    with pytest.raises(AssertionError):
        run(machine, 4000)
