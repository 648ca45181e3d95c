"""Takes one part of the promise away, to see whether the checker notices.

The daemon gives no lease to a feed with `visibility=False`, so that one is broken from within.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
import threading
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, get_args

Part: TypeAlias = Literal[
    "visibility", "tokens", "lease", "nested", "map", "once", "clock", "keep", "page", "observer",
]  # fmt: skip
PARTS: Final[tuple[Part, ...]] = get_args(Part)
LATE: Final = 8.0
"""Seconds by which the second of two requests comes late, at the most."""


def break_readers(part: str | None) -> None:
    """In a process of readers, before they start."""
    breaks: dict[str, Callable[[], None]] = {
        "tokens": _ignore_tokens,
        "lease": _ignore_the_lease,
        "nested": _forget_what_is_inside,
        "once": _send_tokens_twice,
        "clock": _believe_any_clock,
        "keep": _keep_whatever_was_read,
        "page": _take_pages_for_everybodys,
        "observer": _see_no_ordinary_tables,
    }
    if part in breaks:
        breaks[part]()


def break_daemon(part: str | None) -> None:
    """In the daemon's process, before it starts."""
    if part == "visibility":
        _take_everything_for_visible()
    elif part == "map":
        _take_the_map_for_the_same()


def _take_everything_for_visible() -> None:
    from django_pgnudge.feed.visibility import Snapshot  # noqa: PLC0415

    Snapshot.sees = lambda *_: True  # type: ignore[method-assign]


def _ignore_tokens() -> None:
    """Every value stands on one token that nobody ends."""
    from django_pgnudge.reader.keys import Names  # noqa: PLC0415 - Django first

    Names.tokens = lambda *_: ("pgnudge:ignored",)  # type: ignore[method-assign]


def _ignore_the_lease() -> None:
    """Whatever lease there was last is trusted for ever."""
    from django_pgnudge.caches.redis_value_store import RedisValueStore  # noqa: PLC0415 - Django first
    from django_pgnudge.reader.keys import Lease  # noqa: PLC0415 - Django first

    last: dict[str, str] = {}
    answered = RedisValueStore._answered  # noqa: SLF001 - what it says is to be broken

    def answered_as_before(self: RedisValueStore, question: Any, *replies: Any) -> Any:
        answer = answered(self, question, *replies)
        lease = answer.texts.get(question.lease) or last.get(question.lease)
        if lease is None:
            return answer
        last[question.lease] = lease
        return answer._replace(texts={**answer.texts, question.lease: lease})

    parse = Lease.parse

    def parse_as_endless(text: str) -> Lease | None:
        lease = parse(text)
        return None if lease is None else dataclasses.replace(lease, length=math.inf)

    setattr(RedisValueStore, "_answered", answered_as_before)  # noqa: B010 - mypy knows its arguments
    Lease.parse = parse_as_endless  # type: ignore[method-assign]


def _forget_what_is_inside() -> None:
    """A value stands on its own tokens only, not on those of what it used."""
    from django_pgnudge.reader.nested import Collected  # noqa: PLC0415 - Django first

    Collected.add = lambda *_: None  # type: ignore[method-assign]
    Collected.add_unkept = lambda *_: None  # type: ignore[method-assign]


def _take_the_map_for_the_same() -> None:
    """The fingerprint never moves."""
    from django_pgnudge.feed import fingerprint  # noqa: PLC0415 - Django first

    still = (0, 0, 0)

    async def sums(*_: Any) -> tuple[int, int, int]:
        return still

    setattr(fingerprint, "sums", sums)  # noqa: B010 - mypy minds its arguments
    setattr(fingerprint.Fingerprint, "digest", lambda _: still)  # noqa: B010


def _see_no_ordinary_tables() -> None:
    """The observer is blind for ordinary tables, but for one: what reads nothing is not kept."""
    from django_pgnudge.reader import relations  # noqa: PLC0415 - Django first

    relation = relations._relation  # noqa: SLF001 - it is to be broken

    def relation_but_for_one(oid: int, schema: str, name: str, kind: str, *more: Any) -> Any:
        found = relation(oid, schema, name, kind, *more)
        return (
            dataclasses.replace(found, payload=None) if kind == "r" and name != "price" else found
        )

    setattr(relations, "_relation", relation_but_for_one)  # noqa: B010


def _send_tokens_twice() -> None:
    """Each request that makes tokens arrives once more, late."""
    from django_pgnudge.caches.redis_value_store import RedisValueStore  # noqa: PLC0415 - Django first

    make = RedisValueStore.make

    def make_twice(self: RedisValueStore, question: Any, tokens: Any) -> Any:
        def again() -> None:
            with contextlib.suppress(Exception):
                make(self, question, tokens)

        timer = threading.Timer(random.uniform(0.5, LATE), again)
        timer.daemon = True
        timer.start()
        return make(self, question, tokens)

    RedisValueStore.make = make_twice  # type: ignore[method-assign]


def _believe_any_clock() -> None:
    """A lease counts whatever this reader's clock says, for as long as the cache keeps it."""
    from django_pgnudge.reader.lease_clock import LeaseClock  # noqa: PLC0415 - Django first

    LeaseClock.believes = lambda *_, **__: True  # type: ignore[method-assign]


def _keep_whatever_was_read() -> None:
    """Nobody asks which database was read, or in which transaction."""
    from django_pgnudge.reader.bypass import SessionBypass  # noqa: PLC0415 - Django first

    SessionBypass.may_keep = lambda *_: True  # type: ignore[method-assign]


def _take_pages_for_everybodys() -> None:
    """What a page has read of its request is not noted."""
    from django_pgnudge.pages.recording import RecordedInputs  # noqa: PLC0415 - Django first

    setattr(RecordedInputs, "lacks", lambda *_: False)  # noqa: B010 - to mypy it is a method
