"""The keys that Redis says were deleted: ``runnudge`` asks once for each nudge.

Redis publishes each deletion where ``notify-keyspace-events`` has ``E`` and ``g``, as ``manage.py
demo`` sets it on its own server. On other servers the page shows no deleted keys.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.core.cache import cache
from django_redis import get_redis_connection
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from redis.client import PubSub

SHOWN = 12
SECONDS = 2.0


class Deletions:
    """What was deleted between two looks."""

    def __init__(self) -> None:
        self._listener: PubSub | None = None

    def take(self) -> dict[str, Any] | None:
        """The keys deleted since the last look, or None if Redis does not say.

        The receivers run after the deletions, and Redis answers a PING after it has published
        what came before: so what is heard until then is all of it.
        """
        try:
            if self._listener is None:
                self._listener = _listen()
                return None
            return _sorted_out(_heard(self._listener))
        except RedisError:
            self._listener = None
            return None


def _listen() -> PubSub | None:
    redis = get_redis_connection("default")
    told = redis.config_get("notify-keyspace-events").get("notify-keyspace-events", "")
    if "E" not in told or not {"g", "A"} & set(told):
        return None
    listener: PubSub = redis.pubsub(ignore_subscribe_messages=True)
    database = redis.connection_pool.connection_kwargs.get("db", 0)
    listener.subscribe(f"__keyevent@{database}__:del")
    return listener


def _heard(listener: PubSub) -> list[str]:
    keys: list[str] = []
    listener.ping()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        message = listener.get_message(timeout=SECONDS)
        if message is not None and message["type"] == "pong":
            return keys
        if message is not None:
            keys.append(message["data"].decode(errors="replace"))
    raise RedisError(f"Redis did not answer a PING within {SECONDS:g} s")


def _sorted_out(heard: list[str]) -> dict[str, Any]:
    """The cache's own keys by their names, and how many tokens of nudged values."""
    prefix = cache.make_key("")
    ours = {key.removeprefix(prefix) for key in heard if key.startswith(prefix)}
    keys = sorted(key for key in ours if not key.startswith("pgnudge:"))
    return {
        "keys": keys[:SHOWN],
        "more": len(keys[SHOWN:]),
        # Those that a change ends are named with the database in braces.
        "tokens": sum(key.startswith("pgnudge:{") for key in ours),
    }


deletions = Deletions()
