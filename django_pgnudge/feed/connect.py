"""From an address to a connection that is logged in: the name's addresses, the socket, TLS by its
mode, the login.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl as ssl_module
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

from ..errors import (
    AuthenticationError,
    ConfigError,
    ConnectionLostError,
    PgNudgeError,
    ServerError,
    TLSError,
)
from ..log import get_logger
from ..threads import answer
from .address import Address
from .connection import Connection
from .session_settings import STARTUP_REFUSED

log = get_logger("django_pgnudge.feed")

_Attempt: TypeAlias = Callable[[Address, ssl_module.SSLContext | None], Awaitable[Connection]]


async def connect(address: Address, *, replication: bool) -> Connection:
    """A logged-in connection, with settings of its own (`session_settings`).

    Raises ConnectionLostError, TLSError, AuthenticationError, ProtocolError or ServerError.
    The caller bounds the time it may take.
    """
    try:
        return await _log_in(address, partial(_attempt, replication=replication))
    except ServerError as error:
        if error.sqlstate not in STARTUP_REFUSED:
            raise
        log.debug("settings cannot be given at startup: %s", error)
    attempt = partial(_attempt, replication=replication, pin_at_startup=False)
    return await _log_in(address, attempt)


async def _log_in(address: Address, attempt: _Attempt) -> Connection:
    tls = address.tls
    if address.unix_path is not None or tls.mode == "disable":
        return await attempt(address, None)
    context = tls.make_context()
    # "allow" prefers clear text and takes TLS where the server insists; "prefer" is its mirror.
    first, second = (None, context) if tls.mode == "allow" else (context, None)
    try:
        return await attempt(address, first)
    except (ServerError, TLSError, AuthenticationError) as error:
        match error:
            case TLSError():
                refused = True
            case ServerError():
                refused = error.sqlstate == "28000"
            case _:
                # What is not sent in clear text may be sent through TLS, never the other way.
                refused = tls.mode == "allow"
        if tls.required or not refused:
            raise
        try:
            return await attempt(address, second)
        except PgNudgeError:
            raise error from None


async def _attempt(
    address: Address,
    context: ssl_module.SSLContext | None,
    *,
    replication: bool,
    pin_at_startup: bool = True,
) -> Connection:
    loop = asyncio.get_running_loop()
    try:
        if address.unix_path is not None:
            transport, connection = await loop.create_unix_connection(Connection, address.unix_path)
        else:
            transport, connection = await _open(address.host, address.port)
    except OSError as error:
        raise ConnectionLostError(f"cannot connect to {address}: {error}") from None
    except (ValueError, OverflowError) as error:
        # A name that no resolver takes, a port that no socket has.
        raise ConfigError(f"cannot connect to {address}: {error}") from None
    try:
        if address.unix_path is None:
            _keep_alive(transport.get_extra_info("socket"), address.keepalive)
        if context is not None and not await connection.negotiate_tls(address, context):
            if address.tls.required:
                raise TLSError(
                    f"{address} does not offer TLS, and sslmode {address.tls.mode!r} requires it"
                )
            context = None
        await connection.log_in(address, replication=replication, pin_at_startup=pin_at_startup)
    except BaseException as error:
        connection.abort(
            error
            if isinstance(error, PgNudgeError)
            else ConnectionLostError("the attempt to connect was given up")
        )
        await connection.wait_gone()
        if isinstance(error, OSError):
            raise ConnectionLostError(f"the connection to {address} broke: {error}") from None
        raise
    return connection


async def _open(host: str, port: int) -> tuple[asyncio.Transport, Connection]:
    """A connection to the first of the host's addresses that takes one."""
    loop = asyncio.get_running_loop()
    errors: list[OSError] = []
    for place in await addresses(host, port):
        try:
            return await loop.create_connection(Connection, place, port)
        except OSError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    raise OSError("; ".join(map(str, errors)))


async def addresses(host: str, port: int) -> list[str]:
    """The addresses of ``host``, best first; raises what ``socket.getaddrinfo`` raises.

    Without the event loop's executor: a loop that ends waits for the executor's threads, and a
    resolver that gets no answer takes half a minute.
    """
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return [host]
    if "\0" in host:
        # The resolver would look up what is before it.
        raise ValueError("a null character in a host name")

    def look_up() -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(_text(place) for *_, place in found))

    waiter: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    # A thread for each, so that a name does not wait for the resolver of another.
    threading.Thread(
        target=answer, args=(waiter, look_up), name="pgnudge resolver", daemon=True
    ).start()
    return await waiter


def _text(place: tuple[Any, ...]) -> str:
    host, *_, scope = place
    return f"{host}%{scope}" if len(place) == 4 and scope else str(host)


def _keep_alive(sock: socket.socket, seconds: float) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = max(1, int(seconds))
    for name, value in (
        ("TCP_KEEPIDLE", idle),
        ("TCP_KEEPINTVL", idle),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", idle * 4 * 1000),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
