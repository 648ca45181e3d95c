"""The last nudges, kept where both processes see them: a Redis list outside of the cache's keys.

``runnudge`` writes it (see receivers.py), the page reads it. The key has neither the cache's
prefix nor a version, so that no rule and no resync touches it.
"""

from __future__ import annotations

import json
from typing import Any

from django_redis import get_redis_connection

LIST = "shop-demo:nudges"
NUMBER = "shop-demo:nudges:number"
KEPT = 50


def remember(entry: dict[str, Any]) -> None:
    redis = get_redis_connection("default")
    entry["number"] = redis.incr(NUMBER)
    with redis.pipeline() as pipe:
        pipe.lpush(LIST, json.dumps(entry))
        pipe.ltrim(LIST, 0, KEPT - 1)
        pipe.execute()


def last() -> list[dict[str, Any]]:
    """The newest first."""
    return [json.loads(entry) for entry in get_redis_connection("default").lrange(LIST, 0, -1)]
