"""From an address to a connection that is logged in: the socket, TLS by its mode, the login."""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module

from ..errors import (
    AuthenticationError,
    ConfigError,
    ConnectionLostError,
    PgNudgeError,
    ServerError,
    TLSError,
)
from .address import Address
from .resolving import addresses
from .transport import Connection

__all__ = ["connect"]


async def connect(address: Address, *, replication: bool) -> Connection:
    """A logged-in connection.

    Raises ConnectionLostError, TLSError, AuthenticationError, ProtocolError or ServerError.
    Bounding the time it may take is the caller's.
    """
    tls = address.tls
    if address.unix_path is not None or tls.mode == "disable":
        return await _attempt(address, None, replication=replication)
    context = tls.make_context()
    # "allow" prefers clear text and takes TLS where the server insists; "prefer" is its mirror.
    first, second = (None, context) if tls.mode == "allow" else (context, None)
    try:
        return await _attempt(address, first, replication=replication)
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
            return await _attempt(address, second, replication=replication)
        except PgNudgeError:
            raise error from None


async def _attempt(
    address: Address, context: ssl_module.SSLContext | None, *, replication: bool
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
        await connection.log_in(address, replication=replication)
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
