"""pgnudge's feed before a delete: `python -m benchmarks.speed.peers.pgnudge_deletes JSON`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from pgnudge import Batch, WalFeed
from redis import Redis

from benchmarks.speed.child import Child, end_with_parent
from benchmarks.speed.site.tables import PAYLOADS, STORED

if TYPE_CHECKING:
    from benchmarks.speed.stage import Stage


def started(servers: Stage, plugin: str, **options: Any) -> Child:
    """Its process, for the tables of the site; options are the feed's."""
    feed = servers.place() | {"plugin": plugin} | options
    return Child(__name__, redis=servers.redis.port, feed=feed)


async def follow(feed: dict[str, Any], redis: Redis) -> None:
    """Delete the key of each table that a batch names."""
    keys = dict(zip(PAYLOADS, STORED, strict=True))
    async with WalFeed(**feed) as items:
        async for item in items:
            if isinstance(item, Batch):
                redis.unlink(*[keys[payload] for payload in item.payloads()])


def main(text: str) -> None:
    """Follow until the parent goes."""
    job: dict[str, Any] = json.loads(text)
    end_with_parent()
    client = Redis(port=job["redis"], single_connection_client=True)
    asyncio.run(follow(job["feed"], client))


if __name__ == "__main__":
    main(sys.argv[1])
