"""Doing what the protocol asks: with the caller's thread, or with the caller's event loop.

If the cache fails, the failure is logged and the function is called.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.cache import caches as django_caches

from django_pgnudge import caches
from django_pgnudge.caches import Question, ValueStore
from django_pgnudge.log import get_logger, may_log
from django_pgnudge.reader.bypass import in_cache_transaction
from django_pgnudge.reader.lazy_values import evaluate, find_lazy
from django_pgnudge.reader.nested import (
    Collected,
    Ground,
    collect_on,
    collecting,
    transcript_here,
    used_here,
)
from django_pgnudge.reader.observation import Observation
from django_pgnudge.reader.protocol import (
    FORBIDDEN,
    Add,
    Ask,
    Compute,
    Computed,
    Delete,
    Get,
    Has,
    Join,
    Keep,
    Make,
    Put,
    Sleep,
    Step,
    Steps,
)
from django_pgnudge.reader.query_watch import Seen, unwatched, watch_on, watching

if TYPE_CHECKING:
    from django_pgnudge.reader.dependencies import DependencyResolver
    from django_pgnudge.reader.scope import Scope
    from django_pgnudge.reader.state import ReaderState

logger = get_logger("django_pgnudge.nudged")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value lives: what is known of its database, a cache alias, its name for logs, the
    name of the lease that stands for it, and its scope. ``explains``: if it is observed, each
    relation is noted with the statement that touched it. ``shows_earlier``: if it is observed, it
    depends on what the request has read before, too."""

    state: ReaderState
    alias: str
    what: str
    lease: str
    scope: Scope = None
    explains: bool = False
    shows_earlier: bool = False
    ground: Ground = field(init=False, repr=False)
    """What the value is proved by."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ground", (self.alias, self.lease))


class Computation:
    """One call of the function, and what was seen of it.

    ``watched`` goes around the call, and around all else that makes the result, such as the
    rendering of a response. ``observation`` is that of an earlier part of the same result.
    """

    def __init__(
        self, place: Place, *, is_observed: bool = False, observation: Observation | None = None
    ) -> None:
        self._place = place
        if observation is None and is_observed:
            look = place.state.relations.reason_of_calls
            observation = Observation(look, explains=place.explains)
        elif observation is not None:
            observation.view = None  # what its session sees is asked again at the end
        self._seen = Seen(place.state.using, place.scope, observation)
        self._used: list[Collected] = []
        self._going_on = ExitStack()

    def go_on(self) -> None:
        """All that runs in this request belongs to the computation, from here on until `stop` or
        the end of the request.
        """
        used = Collected()
        self._used.append(used)
        self._going_on.callback(watch_on(self._seen))
        self._going_on.callback(collect_on(used))

    def stop(self) -> None:
        """See `go_on`."""
        self._going_on.close()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """What runs inside belongs to the computation."""
        with watching(self._seen), collecting() as used:
            self._used.append(used)
            yield

    def result(self, value: Any) -> Computed:
        """The result so far. Call it in the thread of the connection that was used.

        PostgreSQL is asked whether everybody would have computed the same.
        """
        ground = self._place.ground
        state, observation, touched = self._place.state, self._seen.observation, None
        resolver, collected = state.resolver(self._place.scope), self._used
        if observation is not None and self._place.shows_earlier:
            collected = [*collected, self._add_earlier(observation, resolver)]
        others = [stamp for used in collected for stamp in used.stamps(ground)]
        why = next(filter(None, (used.trouble(ground) for used in collected)), "")
        private = bool(why) or not state.sessions.may_keep(self._seen, self._place.what)
        if observation is not None:
            touched = state.relations.touched(observation, resolver)
        return Computed(value, tuple(others), private, why, touched, observation)

    def _add_earlier(self, observation: Observation, resolver: DependencyResolver) -> Collected:
        """What the request has read and used so far."""
        transcript, place = transcript_here(), self._place
        if transcript is None:
            observation.doubt("nothing has noted what was read before it")
        else:
            place.state.explained.add_to(
                observation, transcript, resolver.registry.generation, place.scope
            )
        return used_here() or Collected()


def ask_cache(place: Place, question: Question) -> Any:
    """The answer to ``Ask``, in this thread."""
    if not place.state.sessions.may_use_cache(place.scope):
        return FORBIDDEN
    try:
        values = caches.values(place.alias)
        if in_cache_transaction(values):
            return FORBIDDEN
        with unwatched():
            return values.ask(question)
    except Exception as error:
        _complain(place, error)
    return None


async def aask_cache(place: Place, question: Question) -> Any:
    """The same for a task."""
    return await sync_to_async(ask_cache)(place, question)


def run(steps: Steps, place: Place, compute: Callable[[], Any]) -> Any:
    """Drive the protocol in this thread."""

    def perform(step: Step) -> Any:
        match step:
            case Compute():
                computation = Computation(place, is_observed=step.is_observed)
                with computation.watched():
                    value = compute()
                    if step.is_observed and (lazy := find_lazy(value)):
                        evaluate(lazy)
                return computation.result(value)
            case Sleep():
                time.sleep(step.seconds)
                return None
            case Join():
                try:
                    step.flight.landed.result(step.timeout)
                except TimeoutError:
                    return False
                return True
        return perform_one(step, place)

    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = steps.throw(error) if error is not None else steps.send(answer)
        except StopIteration as end:
            return end.value
        answer, error = None, None
        try:
            answer = perform(step)
        except BaseException as exc:
            error = exc


async def arun(steps: Steps, place: Place, compute: Callable[[], Awaitable[Any]]) -> Any:
    """Drive the protocol as a task.

    Django's own asynchronous cache methods ask for key after key, each in a thread; here the thread
    that Django would use is asked once.
    """

    async def perform(step: Step) -> Any:
        match step:
            case Compute():
                computation = Computation(place, is_observed=step.is_observed)
                with computation.watched():
                    value = await compute()
                    if step.is_observed and (lazy := find_lazy(value)):
                        await sync_to_async(evaluate)(lazy)
                return await sync_to_async(computation.result)(value)
            case Sleep():
                await asyncio.sleep(step.seconds)
                return None
            case Join():
                landed = asyncio.wrap_future(step.flight.landed)
                done, _ = await asyncio.wait({landed}, timeout=step.timeout)
                return bool(done)
        return await sync_to_async(perform_one)(step, place)

    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = steps.throw(error) if error is not None else steps.send(answer)
        except StopIteration as end:
            return end.value
        answer, error = None, None
        try:
            answer = await perform(step)
        except BaseException as exc:
            error = exc


def perform_one(step: Step, place: Place) -> Any:
    """One request to the cache, in this thread; None if it fails."""
    if isinstance(step, Ask):
        return ask_cache(place, step.question)
    try:
        values = caches.values(place.alias)
        if isinstance(step, Keep | Make) and in_cache_transaction(values):
            return None
        with unwatched():
            return _ask_for(values, step)
    except Exception as error:
        if isinstance(step, Keep) and (reason := _unstorable(step.value)) is not None:
            if may_log(f"unstorable {place.what}"):
                logger.warning(
                    "%s returned a value that cannot be cached, and is called each time: %s."
                    " Return plain data, for example a list instead of a generator.",
                    place.what,
                    reason,
                )
        else:
            _complain(place, error)
    return None


def _ask_for(values: ValueStore, step: Step) -> Any:
    match step:
        case Make():
            if step.foreign:
                values.drop(step.foreign)
            return values.make(step.question, step.tokens)
        case Get():
            return values.get(step.key)
        case Has():
            return values.has(step.key)
        case Add():
            return values.add(step.key, step.text, step.timeout)
        case Keep():
            values.keep(step.key, step.stamp.text(), step.value, step.timeout)
        case Put():
            values.set(step.key, step.value, step.timeout)
        case Delete():
            values.drop([step.key])
    return None


def _complain(place: Place, error: Exception) -> None:
    if may_log(f"broken {place.alias}"):
        logger.warning(
            "nudged: cache %r failed, so values are computed: %s: %s",
            place.alias,
            type(error).__name__,
            error,
        )


def _unstorable(value: Any) -> str | None:
    try:
        pickle.dumps(value)
    except Exception as error:  # pickling runs the value's own code
        return f"{type(error).__name__}: {error}"
    return None


def lifetime(alias: str, timeout: Any) -> float | None:
    """A timeout in seconds, as the cache would read it; None is for ever."""
    if timeout is None or isinstance(timeout, int | float):
        return timeout
    default: float | None = django_caches[alias].default_timeout
    return default
