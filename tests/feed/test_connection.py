"""The connection, against a server that says exactly what a test wants."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge.errors import (
    AuthenticationError,
    ConfigError,
    ConnectionLostError,
    PgNudgeError,
    ProtocolError,
    ServerError,
    TLSError,
)
from django_pgnudge.feed import TLS
from django_pgnudge.feed.address import Address
from django_pgnudge.feed.connect import connect
from django_pgnudge.feed.connection import MAX_UNREAD, Connection
from django_pgnudge.wire import messages
from tests.hostile import SSL_REQUEST, HostileServer, Peer, server_context
from tests.wire import backend

if TYPE_CHECKING:
    from tests.fix_tls import Certificates
    from tests.hostile import Script


def address(server: HostileServer, mode: str = "disable", **options: Any) -> Address:
    password = options.pop("password", None)
    return Address("127.0.0.1", server.port, "u", "d", password, TLS(mode, **options))  # type: ignore[arg-type]


async def fails(script: Script, kind: type[PgNudgeError], why: str, **options: Any) -> None:
    async with HostileServer(script) as server:
        with pytest.raises(kind, match=why):
            async with asyncio.timeout(5):
                await connect(address(server, **options), replication=False)


async def serves(peer: Peer) -> None:
    """An empty server."""
    await peer.serve(until="never")


async def connected(server: HostileServer) -> Connection:
    return await connect(address(server), replication=False)


def answers_tls(*data: bytes) -> Script:
    """Answers the request for TLS with this, each piece when the one before it was sent."""

    async def script(peer: Peer) -> None:
        assert await peer.reader.readexactly(8) == SSL_REQUEST
        for piece in data:
            await peer.send(piece)
        if data:
            await peer.forever()

    return script


@pytest.mark.parametrize(
    ("pieces", "kind", "why"),
    [
        ([b"N"], TLSError, "does not offer TLS, and sslmode 'require' requires it"),
        ([b"SX"], ProtocolError, "b'SX'"),
        ([b"S" + backend.login()], ProtocolError, "answered a request for TLS"),
        ([b"NX"], ProtocolError, "b'NX'"),
        ([b"x"], ProtocolError, "b'x'"),
        ([b"H"], ProtocolError, "b'H'"),
        ([backend.error("too many", "53300", "FATAL")], ConnectionLostError, "too many"),
        ([b"S", b"HTTP/1.1 400\r\n\r\n" * 9], PgNudgeError, "TLS|connection"),
        ([], ConnectionLostError, "closed"),
    ],
)
async def test_an_answer_about_tls_is_one_letter(
    pieces: list[bytes], kind: type[PgNudgeError], why: str
) -> None:
    await fails(answers_tls(*pieces), kind, why, mode="require")


async def test_bytes_behind_the_answer_about_tls_are_refused_whenever_they_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They may come in a read of their own, before the task that waits for the answer runs."""
    received = Connection.data_received

    def in_two_reads(self: Connection, data: bytes) -> None:
        received(self, data[:1])
        if data[1:]:
            received(self, data[1:])

    monkeypatch.setattr(Connection, "data_received", in_two_reads)
    await fails(answers_tls(b"S" + backend.login()), ProtocolError, "for TLS", mode="require")


async def test_a_connection_that_breaks_while_tls_starts_is_lost() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readexactly(8)
        await peer.send(b"S")
        await peer.reader.readexactly(1)

    await fails(script, ConnectionLostError, "connection", mode="require")


async def test_a_connection_closed_before_the_request_for_tls_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    negotiate = Connection.negotiate_tls

    async def late(self: Connection, *args: Any) -> bool:
        await asyncio.wait([self.closed])
        return await negotiate(self, *args)

    async def script(peer: Peer) -> None:
        pass

    monkeypatch.setattr(Connection, "negotiate_tls", late)
    await fails(script, ConnectionLostError, "closed", mode="require")


async def test_a_server_that_does_not_offer_tls_is_used_without_where_that_is_allowed() -> None:
    async with HostileServer(serves) as server:
        connection = await connect(address(server, "prefer"), replication=False)
        assert await connection.rows("SELECT 1") == ()
        await connection.close()
        assert server.connections == 1


async def test_a_password_is_never_sent_in_clear_after_tls_was_refused() -> None:
    async def script(peer: Peer) -> None:
        await peer.startup()
        await peer.send(backend.authentication(3))
        kind, _ = await peer.message()
        raise AssertionError(f"the client sent {kind!r}")

    await fails(script, AuthenticationError, "unencrypted", mode="prefer", password="secret")


@pytest.mark.parametrize("mode", ["prefer", "require"])
async def test_direct_tls_needs_no_question(certificates: Certificates, mode: str) -> None:
    if mode == "prefer":
        with pytest.raises(ConfigError):
            TLS("prefer", negotiation="direct")
        return
    context = server_context(certificates.server)
    context.set_alpn_protocols(["postgresql"])
    accepted: list[str | None] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        peer = Peer(reader, writer)
        await peer.login()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    async with server:
        tls = TLS("verify-full", rootcert=str(certificates.ca), negotiation="direct")
        port = server.sockets[0].getsockname()[1]
        where = Address("127.0.0.1", port, "u", "d", None, tls)
        connection = await connect(where, replication=False)
        await connection.close()
    assert accepted == ["postgresql"]
    assert isinstance(tls.make_context(), ssl.SSLContext)


@pytest.mark.parametrize(
    ("host", "port"),
    [("a" * 70 + ".invalid", 5432), ("a..b", 5432), ("a\0b", 5432), ("127.0.0.1", 99999)],
)
async def test_an_address_that_cannot_be_is_a_mistake_in_the_configuration(
    host: str, port: int
) -> None:
    with pytest.raises(ConfigError, match="cannot connect"):
        await connect(Address(host, port, "u", "d"), replication=False)


async def test_a_port_nobody_listens_on_is_told_with_the_address() -> None:
    async with HostileServer(serves) as server:
        port = server.port
    with pytest.raises(ConnectionLostError, match=f"cannot connect to u@127.0.0.1:{port}/d"):
        await connect(Address("127.0.0.1", port, "u", "d", "secret"), replication=False)


def test_a_unix_socket_is_a_directory_and_a_port() -> None:
    assert Address("/run/pg", 5433, "u", "d").unix_path == "/run/pg/.s.PGSQL.5433"
    assert Address("@pg", 5433, "u", "d").unix_path == "\0pg/.s.PGSQL.5433"
    assert Address("pg", 5433, "u", "d").unix_path is None
    assert str(Address("/run/pg", 5433, "u", "d", "secret")) == "u@/run/pg/d"
    assert "secret" not in repr(Address("/run/pg", 5433, "u", "d", "secret"))


async def test_an_idle_connection_hears_why_it_ends() -> None:
    async def script(peer: Peer) -> None:
        await peer.login()
        await peer.send(backend.notice(), backend.error("shutting down", "57P01", "FATAL"))

    async with HostileServer(script) as server:
        connection = await connected(server)
        error = await asyncio.wait_for(asyncio.shield(connection.closed), 5)
        assert isinstance(error, ServerError)
        assert error.sqlstate == "57P01"
        with pytest.raises(ServerError, match="57P01"):
            await connection.execute("SELECT 1")


async def test_what_comes_on_an_idle_connection_is_not_kept() -> None:
    flooded = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.login()
        await peer.send(backend.notice() * 20_000)
        flooded.set()
        await peer.forever()

    async with HostileServer(script) as server:
        connection = await connected(server)
        await asyncio.wait_for(flooded.wait(), 5)
        assert connection.session.framer.pending < 1000
        await connection.close(patience=0)


async def test_an_answer_to_no_question_ends_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.login()
        await peer.send(backend.result(["x"], ["1"]))
        await peer.forever()

    async with HostileServer(script) as server:
        connection = await connected(server)
        error = await asyncio.wait_for(asyncio.shield(connection.closed), 5)
        assert isinstance(error, ProtocolError)


async def test_a_bug_of_ours_reaches_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async with HostileServer(serves) as server:
        connection = await connected(server)

        def bug(body: bytes) -> None:
            raise IndexError("a bug")

        monkeypatch.setattr(messages, "row_description", bug)
        with pytest.raises(IndexError, match="a bug"):
            await connection.rows("SELECT 1")
        assert connection.closed.done()


@pytest.mark.parametrize("mode", ["disable", "require"])
async def test_giving_up_an_attempt_leaves_nothing(mode: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.forever()

    async with HostileServer(script) as server:
        attempt = asyncio.ensure_future(connect(address(server, mode), replication=False))
        await server.connected(1)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt


async def test_closing_says_goodbye_and_waits_for_the_server() -> None:
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.login()
        heard.append((await peer.message())[0])

    async with HostileServer(script) as server:
        connection = await connected(server)
        await connection.close(patience=5)
        assert heard == [b"X"]
        await connection.close()
        with pytest.raises(ConnectionLostError):
            await connection.rows("SELECT 1")


async def test_a_stream_in_place_of_rows_is_refused() -> None:
    async def script(peer: Peer) -> None:
        await peer.serve("SELECT")
        await peer.send(backend.copy_both())
        await peer.forever()

    async with HostileServer(script) as server:
        connection = await connected(server)
        with pytest.raises(ProtocolError, match="with a stream"):
            await connection.rows("SELECT 1")
        connection.abort(ConnectionLostError("done"))


async def test_statuses_for_a_server_that_reads_nothing_do_not_pile_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.stream()
        await peer.forever()

    async with HostileServer(script) as server:
        connection = await connected(server)
        await connection.execute("START_REPLICATION")
        transport = connection._transport  # noqa: SLF001 - what it has been given to write
        assert transport is not None
        written: list[bytes] = []
        monkeypatch.setattr(transport, "write", written.append)
        monkeypatch.setattr(transport, "get_write_buffer_size", lambda: sum(map(len, written)))
        for _ in range(10_000):
            connection.send_status(1)
        assert 0 < sum(map(len, written)) < MAX_UNREAD + 100
        connection.abort(ConnectionLostError("done"))
