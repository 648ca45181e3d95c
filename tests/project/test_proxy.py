"""fix_proxy.py: each way of breaking a connection is the way it says it is."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from servers.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers.postgres import Postgres
    from servers.proxy import Direction, Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads: list[threading.Thread] = []

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while data := connection.recv(65536):
                    connection.sendall(data)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threads.append(threading.Thread(target=serve, args=[connection], daemon=True))
                    threads[-1].start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    acceptor.join(10)
    for thread in threads:
        thread.join(10)


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=10)


def exchange(client: socket.socket, data: bytes = b"ping") -> bytes:
    client.sendall(data)
    return client.recv(100)


def test_bytes_pass_both_ways_and_are_recorded(proxy_to: Callable[..., Proxy], echo: int) -> None:
    proxy = proxy_to(echo, record=True)
    with connect(proxy) as client:
        assert exchange(client) == b"ping"
    assert proxy.recorded == [("to_server", b"ping"), ("to_client", b"ping")]
    assert proxy.accepted == 1


def test_a_closed_client_closes_the_link(proxy_to: Callable[..., Proxy], echo: int) -> None:
    proxy = proxy_to(echo)
    with connect(proxy) as client:
        exchange(client)
        assert proxy.connections == 1
    wait_until(lambda: proxy.connections == 0, "the link to end")


def test_cut_is_a_reset(proxy_to: Callable[..., Proxy], echo: int) -> None:
    proxy = proxy_to(echo)
    with connect(proxy) as client:
        exchange(client)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_close_is_an_orderly_end(proxy_to: Callable[..., Proxy], echo: int) -> None:
    proxy = proxy_to(echo)
    with connect(proxy) as client:
        exchange(client)
        proxy.close()
        assert client.recv(1) == b""


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_a_stalled_direction_keeps_the_connection_and_delivers_later(
    proxy_to: Callable[..., Proxy], echo: int, direction: Direction
) -> None:
    proxy = proxy_to(echo)
    with connect(proxy) as client:
        exchange(client)
        proxy.stall(direction)
        client.settimeout(0.05)
        client.sendall(b"late")
        with pytest.raises(TimeoutError):
            client.recv(4)
        proxy.resume(direction)
        client.settimeout(10)
        assert client.recv(4) == b"late"


def test_a_half_open_server_accepts_and_never_answers(
    proxy_to: Callable[..., Proxy], echo: int
) -> None:
    proxy = proxy_to(echo)
    proxy.half_open()
    with connect(proxy) as client:
        client.settimeout(0.05)
        client.sendall(b"hello?")
        with pytest.raises(TimeoutError):
            client.recv(1)
    proxy.half_open(False)
    with connect(proxy) as client:
        assert exchange(client) == b"ping"


def test_a_refusing_proxy_listens_again_at_its_port(
    proxy_to: Callable[..., Proxy], echo: int
) -> None:
    proxy = proxy_to(echo)
    port = proxy.port
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.listen()
    assert proxy.port == port
    with connect(proxy) as client:
        assert exchange(client) == b"ping"


def test_a_hook_changes_and_drops_bytes(proxy_to: Callable[..., Proxy], echo: int) -> None:
    dropped = threading.Event()

    def hook(direction: Direction, data: bytes) -> bytes | None:
        if data == b"drop":
            dropped.set()
            return None
        return data.upper() if direction == "to_server" else data

    proxy = proxy_to(echo, hook=hook)
    with connect(proxy) as client:
        client.sendall(b"drop")
        assert dropped.wait(10)
        assert exchange(client) == b"PING"


def test_a_delay_holds_every_chunk(proxy_to: Callable[..., Proxy], echo: int) -> None:
    proxy = proxy_to(echo, delay=0.05)
    with connect(proxy) as client:
        began = time.monotonic()
        assert exchange(client) == b"ping"
        # Not a measurement: less than the delay is impossible if the delay is there.
        assert time.monotonic() - began >= 0.1


def test_a_server_that_is_not_there_ends_the_connection(proxy_to: Callable[..., Proxy]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    proxy = proxy_to(port)
    with connect(proxy) as client:
        assert client.recv(1) == b""


def test_a_unix_socket_can_be_behind_it(
    proxy_to: Callable[..., Proxy], postgres_factory: Callable[..., Postgres]
) -> None:
    server = postgres_factory()
    proxy = proxy_to(f"{server.socket_dir}/.s.PGSQL.{server.port}")
    with connect(proxy) as client:
        # SSLRequest: length 8, code 80877103; a Unix socket answers N.
        assert exchange(client, b"\x00\x00\x00\x08\x04\xd2\x16\x2f") == b"N"
