"""A TCP proxy between a test and its server; the engine is `servers.proxy`.

def test_something(database, proxy_to):
    proxy = proxy_to(database.postgres.port)
    feed = WalFeed(**database.feed_options(port=proxy.port))
    proxy.wait_for_connections(1)
    proxy.stall("to_client")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from servers.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


@pytest.fixture
def proxy_to() -> Iterator[Callable[..., Proxy]]:
    """`proxy_to(target, **options of Proxy)`: a started proxy, stopped afterwards.

    A hook that raised fails the test.
    """
    made: list[Proxy] = []

    def make(target: int | tuple[str, int] | str, **options: Any) -> Proxy:
        made.append(Proxy(target, **options))
        return made[-1].start()

    try:
        yield make
    finally:
        for proxy in made:
            proxy.stop()
    for proxy in made:
        for error in proxy.errors:
            raise error
