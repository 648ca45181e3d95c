"""No test leaves connections of cache clients behind.

A cache that another thread or a task has used is a client of its own, which nobody closes. Its
sockets would end whenever Python collects it, and a ``ResourceWarning`` would fail another test.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import pymemcache
import pytest
import redis
import valkey

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS: Final = {
    redis.ConnectionPool: "disconnect",
    valkey.ConnectionPool: "disconnect",
    pymemcache.Client: "close",
}
_made: WeakSet[Any] = WeakSet()


def _noted(kind: type[Any]) -> None:
    begin = kind.__init__

    @functools.wraps(begin)
    def noting(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        _made.add(self)

    kind.__init__ = noting


for _kind in _KINDS:
    _noted(_kind)


@pytest.fixture(autouse=True)
def clients_of_this_test_are_closed() -> Iterator[None]:
    """Those that it made, in whichever thread."""
    _made.clear()
    yield
    for client in list(_made):
        close = next(name for kind, name in _KINDS.items() if isinstance(client, kind))
        getattr(client, close)()
