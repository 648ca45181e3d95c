"""The server's half of the protocol, as bytes: what tests feed to a session or send as a server.

Written from the protocol chapter and not from `django_pgnudge.wire`, so that the two check each
other.
"""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + pack("!I", len(body) + 4) + body


def authentication(code: int, rest: bytes = b"") -> bytes:
    return message(b"R", pack("!I", code) + rest)


def sasl(*mechanisms: str) -> bytes:
    return authentication(10, b"".join(name.encode() + b"\0" for name in mechanisms) + b"\0")


def parameter(name: str, value: str) -> bytes:
    return message(b"S", name.encode() + b"\0" + value.encode() + b"\0")


def key_data(pid: int = 4242, secret: int = 1) -> bytes:
    return message(b"K", pack("!Ii", pid, secret))


def ready(status: bytes = b"I") -> bytes:
    return message(b"Z", status)


def problem(kind: bytes, **fields: str) -> bytes:
    body = b"".join(name.encode() + text.encode() + b"\0" for name, text in fields.items())
    return message(kind, body + b"\0")


def error(
    text: str = "it went wrong", sqlstate: str = "XX000", severity: str = "ERROR", **more: str
) -> bytes:
    return problem(b"E", S=severity, V=severity, C=sqlstate, M=text, **more)


def notice(
    text: str = "by the way", severity: str = "NOTICE", sqlstate: str = "00000", **more: str
) -> bytes:
    return problem(b"N", **({"S": severity, "V": severity, "C": sqlstate, "M": text} | more))


def row_description(*names: str) -> bytes:
    columns = b"".join(
        name.encode() + b"\0" + pack("!IhIhih", 0, 0, 25, -1, -1, 0) for name in names
    )
    return message(b"T", pack("!h", len(names)) + columns)


def data_row(*values: str | bytes | None) -> bytes:
    parts = [pack("!h", len(values))]
    for value in values:
        if value is None:
            parts.append(pack("!i", -1))
        else:
            raw = value.encode() if isinstance(value, str) else value
            parts.append(pack("!i", len(raw)) + raw)
    return message(b"D", b"".join(parts))


def complete(tag: str = "SELECT 1") -> bytes:
    return message(b"C", tag.encode() + b"\0")


def result(columns: Sequence[str], *rows: Sequence[str | bytes | None]) -> bytes:
    return b"".join(
        [row_description(*columns), *(data_row(*row) for row in rows), complete(), ready()]
    )


def copy_both() -> bytes:
    return message(b"W", b"\0\0\0")


def copy_data(body: bytes) -> bytes:
    return message(b"d", body)


def copy_done() -> bytes:
    return message(b"c")


def xlog(payload: bytes, start: int = 0x1000, end: int | None = None, clock: int = 0) -> bytes:
    head = pack("!cQQq", b"w", start, start if end is None else end, clock)
    return copy_data(head + payload)


def keepalive(lsn: int = 0x2000, *, reply: bool = False, clock: int = 0) -> bytes:
    return copy_data(pack("!cQqB", b"k", lsn, clock, reply))


def stream(payloads: Iterable[bytes], start: int = 0x1000) -> bytes:
    """XLogData messages with growing positions."""
    return b"".join(xlog(payload, start + 8 * place) for place, payload in enumerate(payloads, 1))


def login(
    version: str = "15.20 (Debian 15.20-1)", encoding: str = "UTF8", pid: int = 4242
) -> bytes:
    """What a server says to a client it trusts."""
    return b"".join(
        [
            authentication(0),
            parameter("server_version", version),
            parameter("server_encoding", encoding),
            parameter("client_encoding", "UTF8"),
            key_data(pid),
            ready(),
        ]
    )
