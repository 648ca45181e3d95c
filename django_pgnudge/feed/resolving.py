"""A host name's addresses, without the event loop's executor.

A loop that ends waits for the threads of its executor, and a resolver that gets no answer takes
half a minute: a process that was told to go would be there for as long.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from typing import Any

from ..threads import answer


async def addresses(host: str, port: int) -> list[str]:
    """The addresses of ``host``, best first; raises what ``socket.getaddrinfo`` raises."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return [host]
    if "\0" in host:
        # The resolver would look up what stands before it.
        raise ValueError("a null character in a host name")

    def look_up() -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(_text(place) for *_, place in found))

    waiter: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    # One each, so that a name does not wait for another's resolver.
    threading.Thread(
        target=answer, args=(waiter, look_up), name="pgnudge resolver", daemon=True
    ).start()
    return await waiter


def _text(place: tuple[Any, ...]) -> str:
    host, *_, scope = place
    return f"{host}%{scope}" if len(place) == 4 and scope else str(host)
