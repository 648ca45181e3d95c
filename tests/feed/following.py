"""A consumer for tests: follows a feed in a task and waits for conditions, never for time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from django_pgnudge import Event, WalFeed

if TYPE_CHECKING:
    from tests.fix_servers import Database

DEADLINE = 20.0


class Follower:
    """Everything a feed has given so far."""

    def __init__(self, feed: Any) -> None:
        self.feed = feed
        self.items: list[Any] = []
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        async for item in self.feed:
            self.items.append(item)
            self._changed.set()

    async def until(self, condition: Callable[[], Any], what: str = "the condition") -> None:
        """Wait until the condition holds of what has come."""
        try:
            async with asyncio.timeout(DEADLINE):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(
                f"{what} did not come; there was {self.items}, last error {self.feed.last_error}"
            ) from None

    @property
    def resyncs(self) -> list[str]:
        return [item.reason for item in self.items if type(item).__name__ == "Resync"]

    @property
    def batches(self) -> list[Any]:
        return [item for item in self.items if type(item).__name__ == "Batch"]

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch.events]

    @property
    def counts(self) -> Counter[str]:
        """Rows per payload."""
        total: Counter[str] = Counter()
        for event in self.events:
            total[event.payload] += event.count
        return total

    def keys(self, payload: str) -> set[Any] | None:
        """All keys of a payload's events, None if one of them was for any row."""
        found: set[Any] = set()
        for event in self.events:
            if event.payload == payload:
                if event.keys is None:
                    return None
                found |= event.keys
        return found

    async def payload(self, name: str) -> None:
        await self.until(lambda: self.counts[name], f"a nudge for {name!r}")

    async def resync(self, reason: str, times: int = 1) -> None:
        await self.until(lambda: self.resyncs.count(reason) >= times, f"Resync {reason!r}")


def feed_of(database: Database, /, **options: Any) -> Any:
    """A feed of this database that is quick to connect again."""
    return WalFeed(**database.feed_options(**({"backoff": (0.01, 0.1)} | options)))


@asynccontextmanager
async def following(feed: Any, *, live: bool = True) -> AsyncIterator[Follower]:
    """Follow a feed; by default from when it is live."""
    follower = Follower(feed)
    task = asyncio.create_task(follower.follow())
    try:
        async with feed:
            if live:
                await follower.until(lambda: follower.resyncs or task.done(), "the first Resync")
            if task.done():
                task.result()
            yield follower
            if task.done():
                task.result()
    finally:
        await asyncio.wait([task], timeout=DEADLINE)
        if not task.done():
            task.cancel()
            raise AssertionError("the iteration did not end with the feed")


async def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Something that blocks, off the event loop."""
    return await asyncio.to_thread(function, *args, **kwargs)
