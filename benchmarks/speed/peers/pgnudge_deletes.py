"""pgnudge's feed before a delete: `python -m benchmarks.speed.peers.pgnudge_deletes JSON`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from pgnudge import Batch, WalFeed
from redis import Redis

from benchmarks.speed.child import end_with_parent
from benchmarks.speed.site.tables import PAYLOADS, STORED


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
