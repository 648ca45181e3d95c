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

from .transport import settling

__all__ = ["addresses"]


async def addresses(host: str, port: int) -> list[str]:
    """The addresses of ``host``, best first; raises what ``socket.getaddrinfo`` raises."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return [host]
    if "\0" in host:
        # The resolver would look up what stands before it.
        raise ValueError("a null character in a host name")
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[list[str]] = loop.create_future()
    answered = settling(waiter)

    def look_up() -> None:
        outcome: list[str] | Exception
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            outcome = list(dict.fromkeys(_text(place) for *_, place in found))
        except Exception as error:
            outcome = error
        # The loop may have closed: then nobody waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(answered, outcome)

    threading.Thread(target=look_up, name="pgnudge resolver", daemon=True).start()
    return await waiter


def _text(place: tuple[Any, ...]) -> str:
    host, *_, scope = place
    return f"{host}%{scope}" if len(place) == 4 and scope else str(host)
