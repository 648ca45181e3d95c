"""How a value is read: the protocol without I/O, as a generator of steps.

Each step is what the protocol asks of its driver (`executor`), which sends back the answer.

Its main rule: tokens are taken before the function runs, and the entry carries them. What a reader
stores late, under tokens that the daemon has deleted meanwhile, is never served.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from django_pgnudge.backoff import Backoff
from django_pgnudge.reader.entries import Believes, Hit, Judgement, Miss, Plan, judge, new_token

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from django_pgnudge.caches import Question
    from django_pgnudge.reader.entries import Stamp
    from django_pgnudge.reader.keys import Coverage, Lease
    from django_pgnudge.reader.observation import Observation
    from django_pgnudge.reader.relations import Touched
    from django_pgnudge.reader.single_flight import Flight, SingleFlight

LOCK_SECONDS: Final = 30
"""How long the lock of a process that died stays."""

POLL: Final = (0.02, 0.2)
"""Seconds between two questions whether another process has stored the value: at first, at most."""

LEARNED_SECONDS: Final = 7 * 86_400
"""How long it is remembered in the cache which tables a function touches."""

ROW_TOKEN_SECONDS: Final = 86_400
"""Tokens of rows last at least so long. They expire since there may be as many as rows."""

FORBIDDEN: Final = object()
"""The answer if the caller's session does not see what everybody sees."""


@dataclass(frozen=True, slots=True)
class Ask:
    """An `Answer`; None if the cache gives none; `FORBIDDEN`."""

    question: Question


@dataclass(frozen=True, slots=True)
class Make:
    """Delete the foreign keys, make tokens (text and seconds to live, by key), and ask again."""

    question: Question
    tokens: Mapping[str, tuple[str, int | None]]
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Get:
    """Plain data that the daemon has stored; None if there is none."""

    key: str


@dataclass(frozen=True, slots=True)
class Has:
    """Whether there is anything under a key; None if the cache gives no answer."""

    key: str


@dataclass(frozen=True, slots=True)
class Add:
    """Set a text unless there is one; whether it was set. ``timeout`` in seconds."""

    key: str
    text: str
    timeout: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Store a value under its stamp; ``timeout`` as the user gave it."""

    key: str
    stamp: Stamp
    value: Any
    timeout: Any


@dataclass(frozen=True, slots=True)
class Put:
    """Store plain data that needs no proof; ``timeout`` as the user gave it."""

    key: str
    value: Any
    timeout: Any


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key."""

    key: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Join:
    """Wait until a flight has landed; whether it has after ``timeout`` seconds."""

    flight: Flight
    timeout: float


@dataclass(frozen=True, slots=True)
class Compute:
    """Call the function; what it raises is thrown in. Its result comes as `Computed`.

    With ``is_observed`` PostgreSQL is asked what it touched.
    """

    is_observed: bool = False


@dataclass(frozen=True, slots=True)
class Computed:
    """What a function returned.

    ``others`` are the stamps of the nudged values it used. ``private``: the result is its caller's
    alone, and must be neither stored nor handed over. ``why``: the reason, if it is not logged yet.
    ``touched`` are the payloads that it read, and ``observation`` is how that was seen, if it was
    observed.
    """

    value: Any
    others: tuple[Stamp, ...] = ()
    private: bool = False
    why: str = ""
    touched: Touched | None = None
    observation: Observation | None = None


Step: TypeAlias = Ask | Make | Get | Has | Add | Keep | Put | Delete | Sleep | Join | Compute
Steps: TypeAlias = Generator[Step, Any, Any]
Store: TypeAlias = "Callable[[Recipe, Computed, Stamp], Step | None]"


class Observer(Protocol):
    """What to do with what a computation was seen to touch.

    ``key`` is where processes tell each other which tables a function touches. ``knows``: this
    process knows it. ``recall`` is told what is there, and makes a plan of it, if it can.
    ``learn`` returns what is to be stored there, if that is news. ``doubt`` says why what was seen
    is not enough to store a value; empty if it is. ``narrow`` returns the stamp to store a value
    under, from one with more tokens; None if the value must not be stored.
    """

    key: str
    knows: bool

    def recall(self, listed: object) -> Plan | None: ...
    def learn(self, touched: Touched) -> list[str] | None: ...
    def doubt(self, computed: Computed) -> str: ...
    def narrow(self, plan: Plan, whole: Stamp, computed: Computed) -> Stamp | None: ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to read one value.

    ``believes`` says whether a lease counts. ``coverages`` keeps what streams carry, by digest.
    ``may_store`` is called with the lease and its coverage, or with None, None and the reason.
    ``store`` makes the step that keeps the value, or None. ``is_unfinished`` says whether what the
    function returned is still to be made, such as a response that is not rendered: then ``store``
    gets the stamp of before, and calls `prove` at the end. ``vouch`` says whether all that the
    function is handed was read under these tokens too. ``refuse`` is told why a result is not
    stored. ``timeout`` is the entry's, as the user gave it; ``lifetime`` is the same in seconds.
    ``wait`` is how many seconds to wait for others who compute the same value; 0 is without
    waiting and without a lock. If ``hands_over``, a value that cannot be stored is handed to those
    who wait, if it is at most ``lease`` seconds old. ``observer`` says what to do with what
    computing it touched; None if that is not asked.
    """

    plan: Plan
    alias: str
    timeout: Any
    lifetime: float | None
    wait: float
    lease: float
    on_loop: bool
    believes: Believes
    coverages: MutableMapping[str, Coverage]
    may_store: Callable[[Lease | None, Coverage | None, str], bool]
    vouch: Callable[[Stamp], bool]
    refuse: Callable[[str], None]
    store: Store
    observer: Observer | None = None
    hands_over: bool = True
    is_unfinished: Callable[[Any], bool] = lambda value: False
    clock: Callable[[], float] = time.monotonic

    def judged(self, answer: Any, may_hit: bool = True) -> Judgement:
        """`judge` of an answer to the plan's question."""
        return judge(self.plan, answer, self.believes, may_hit)


@dataclass(frozen=True, slots=True)
class Read:
    """A value, and the stamp that proves it, or None.

    ``private``: the value is its caller's alone. ``stored``: others find it in the cache.
    """

    value: Any
    stamp: Stamp | None = None
    private: bool = False
    stored: bool = False


def store_entry(recipe: Recipe, computed: Computed, stamp: Stamp) -> Step | None:
    """Keep the value under the plan's key."""
    return Keep(recipe.plan.entry, stamp, computed.value, recipe.timeout)


def read(recipe: Recipe, flights: SingleFlight, *, may_hit: bool = True) -> Steps:
    """The value, from the cache or computed; with ``may_hit=False`` computed in any case.

    Returns a `Read`.
    """
    answer = yield Ask(recipe.plan.question)
    if answer is FORBIDDEN:
        computed: Computed = yield Compute()
        return Read(computed.value, private=True)
    return (yield from read_on(recipe, flights, recipe.judged(answer, may_hit), may_hit))


def read_on(recipe: Recipe, flights: SingleFlight, first: Judgement, may_hit: bool = True) -> Steps:
    """The rest of `read`, after the cache's answer has been judged."""
    plan = recipe.plan
    if isinstance(first, Miss) and first.more:
        # Another process stored it, which knows the values used inside: ask for their tokens too.
        plan.ask_for(first.more)
        first = recipe.judged((yield Ask(plan.question)), may_hit)
    if isinstance(first, Hit):
        return Read(first.value, first.stamp)
    storable = yield from _may_store(recipe, first)
    if not (recipe.wait and may_hit and (storable or recipe.hands_over)):
        return (yield from _compute(recipe, first, storable))
    deadline = recipe.clock() + recipe.wait
    while True:
        flight, mine = flights.join_or_start((recipe.alias, plan.entry), on_loop=recipe.on_loop)
        if flight is None:
            return (yield from _compute(recipe, first, storable))
        if mine:
            with flights.flying(flight):
                if storable:
                    done = yield from _compute_for_all(recipe, deadline)
                else:
                    done = yield from _compute(recipe, first, storable)
                private = done.private or not recipe.hands_over
                flight.tell(done.value, stored=done.stored, private=private)
            return done
        landed = yield from _wait(flight, flights, deadline - recipe.clock())
        if landed and (handed := flight.handed_over(recipe.lease)) is not None:
            # Nothing proves it, and it is not in the cache.
            return Read(*handed)
        # What the other computed may be older than what this caller has seen committed. Only the
        # tokens can tell, so the cache is asked.
        first = recipe.judged((yield Ask(plan.question)))
        if isinstance(first, Hit):
            return Read(first.value, first.stamp)
        storable = yield from _may_store(recipe, first)
        if not (landed and flight.stored):
            return (yield from _compute(recipe, first, storable))


def stamp_now(recipe: Recipe) -> Generator[Step, Any, Stamp | None]:
    """The tokens as they are, for a value that is kept elsewhere; None if it must not be kept."""
    state = recipe.judged((yield Ask(recipe.plan.question)), may_hit=False)
    if not (yield from _may_store(recipe, state)):
        return None
    state = yield from _take_stamp(recipe, state, may_hit=False)
    if not (yield from _may_store(recipe, state)):
        return None
    return state.stamp if isinstance(state, Miss) else None


def _take_stamp(
    recipe: Recipe, state: Judgement, *, may_hit: bool = True
) -> Generator[Step, Any, Judgement]:
    """Make the missing tokens and ask again, in one request: another reader may be first."""
    if not isinstance(state, Miss) or not state.missing:
        return state
    tokens = {key: (new_token(), token_timeout(recipe, key)) for key in state.missing}
    answer = yield Make(recipe.plan.ask_for_all(), tokens, state.foreign)
    return recipe.judged(answer, may_hit)


def _wait(flight: Flight, flights: SingleFlight, seconds: float) -> Steps:
    with flights.waiting(flight) as safe:
        return safe and seconds > 0 and (yield Join(flight, seconds))


def _compute_for_all(recipe: Recipe, deadline: float) -> Steps:
    """Compute while others wait: callers in this process for the flight, processes for the lock.

    The lock is the cache's ``add``. It only saves work; no guarantee depends on it.
    """
    plan = recipe.plan
    pauses = Backoff(*POLL, factor=1.5, least=0.5)
    locked = yield Add(plan.lock, new_token(), LOCK_SECONDS)
    while not locked and (left := deadline - recipe.clock()) > 0:
        yield Sleep(min(left, pauses.next_delay()))
        state = recipe.judged((yield Ask(plan.question)))
        if isinstance(state, Hit):
            return Read(state.value, state.stamp, stored=True)
        if not (yield from _may_store(recipe, state)):
            return (yield from _compute(recipe, state, storable=False))
        if not (yield Has(plan.lock)):
            locked = yield Add(plan.lock, new_token(), LOCK_SECONDS)
    try:
        # Someone may have stored it between the first question and the lock.
        state = recipe.judged((yield Ask(plan.question)))
        if isinstance(state, Hit):
            return Read(state.value, state.stamp, stored=True)
        storable = yield from _may_store(recipe, state)
        return (yield from _compute(recipe, state, storable))
    finally:
        if locked:
            yield Delete(plan.lock)


def _compute(recipe: Recipe, state: Judgement, storable: bool) -> Steps:
    """Take the tokens, then call the function, then keep what it returned under those tokens."""
    stamp, observer = None, recipe.observer
    if storable:
        if observer is not None and not observer.knows:
            # Another process may have seen what the function touches.
            plan = observer.recall((yield Get(observer.key)))
            if plan is not None:
                recipe = replace(recipe, plan=plan)
                state = recipe.judged((yield Ask(plan.ask_for_all())))
        state = yield from _take_stamp(recipe, state)
        if isinstance(state, Hit):
            return Read(state.value, state.stamp, stored=True)
        if state.missing and state.lease is not None:
            # They were there and are gone, or cannot be made: a change, or somebody else's bytes.
            recipe.refuse("its tokens could not be made")
        elif (yield from _may_store(recipe, state)):
            stamp = state.stamp
        if stamp is not None and not recipe.vouch(stamp):
            stamp = None
    computed: Computed = yield Compute(is_observed=observer is not None)
    if recipe.is_unfinished(computed.value):
        return (yield from _begin_to_store(recipe, computed, stamp))
    whole, private = yield from prove(recipe, computed, stamp, learns=storable)
    if whole is None:
        return Read(computed.value, private=private)
    step = recipe.store(recipe, computed, whole)
    if step is not None:
        yield step
    return Read(computed.value, whole, stored=step is not None)


def prove(
    recipe: Recipe, computed: Computed, stamp: Stamp | None, *, learns: bool = True
) -> Generator[Step, Any, tuple[Stamp | None, bool]]:
    """What a result is to be stored under, from the stamp of before it was computed.

    Returns None if it must not be stored, and whether it is its caller's alone. With ``learns``
    other processes are told what it touched.
    """
    observer, touched = recipe.observer, computed.touched
    private, why = computed.private, computed.why
    if observer is not None and touched is not None:
        news = observer.learn(touched)
        if news is not None and learns:
            yield Put(observer.key, news, LEARNED_SECONDS)
        if not private and (doubt := observer.doubt(computed)):
            private, why = True, doubt
    if private:
        if why:
            recipe.refuse(why)
        return None, True
    # The nudged values it used may be as old as a lease by themselves.
    may_be_old = bool(computed.others)
    if stamp is None:
        return None, may_be_old
    whole = stamp.with_others(computed.others)
    if whole is None:
        recipe.refuse("the nudged values it used are of before a change, or too many to name")
        return None, True
    if observer is not None and touched is not None:
        # If that is None, its tokens are taken before the next time.
        return observer.narrow(recipe.plan, whole, computed), may_be_old
    return whole, may_be_old


def _begin_to_store(recipe: Recipe, computed: Computed, stamp: Stamp | None) -> Steps:
    """Go on with a result that is still to be made; what made it so far is noted with the rest."""
    if computed.private or stamp is None:
        if computed.why:
            recipe.refuse(computed.why)
        return Read(computed.value, private=computed.private or bool(computed.others))
    named = {key: stamp.tokens[key] for key in recipe.plan.required}
    so_far = stamp._replace(tokens=named).with_others(computed.others)
    step = recipe.store(recipe, computed, stamp)
    if step is not None:
        yield step
    return Read(computed.value, so_far, private=so_far is None)


def _may_store(recipe: Recipe, state: Judgement) -> Generator[Step, Any, bool]:
    """Whether there was a lease whose stream carries all that the value depends on."""
    if isinstance(state, Hit):
        return True
    if state.lease is None:
        return recipe.may_store(None, None, state.why)
    digest = state.lease.coverage
    coverage = recipe.coverages.get(digest)
    if coverage is None:
        listed = yield Get(recipe.plan.coverage_key(digest))
        if not isinstance(listed, frozenset | set | list | tuple):
            return recipe.may_store(None, None, "what the lease covers is not listed")
        try:
            coverage = recipe.coverages[digest] = frozenset(listed)
        except TypeError:
            return recipe.may_store(None, None, "what the lease covers is not listed")
    return recipe.may_store(state.lease, coverage, "")


def token_timeout(recipe: Recipe, key: str) -> int | None:
    if key in recipe.plan.lasting or recipe.lifetime is None:
        return None
    return max(ROW_TOKEN_SECONDS, int(recipe.lifetime) + 60)
