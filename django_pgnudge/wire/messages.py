"""Messages of the frontend/backend protocol 3.0: reads bodies, and builds messages to send.

Source: PostgreSQL documentation, "Message Formats", "Error and Notice Message Fields" and
"Streaming Replication Protocol".
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from struct import error as struct_error

from ..epoch import POSTGRES_EPOCH
from ..errors import ConfigError, ProtocolError, ServerError

MAX_FIELD = 8192
"""The most bytes of one error field that are kept, because the field is logged."""

_PROTOCOL_3_0 = 196_608
_SSL_REQUEST_CODE = 80_877_103
_INT16 = Struct("!h")
_INT32 = Struct("!i")
_STATUS = Struct("!cQQQqB")


def startup(parameters: Mapping[str, str]) -> bytes:
    """StartupMessage for protocol 3.0."""
    body = b"".join(_cstring(text) for pair in parameters.items() for text in pair) + b"\0"
    return Struct("!II").pack(len(body) + 8, _PROTOCOL_3_0) + body


def ssl_request() -> bytes:
    return Struct("!II").pack(8, _SSL_REQUEST_CODE)


def query(sql: str) -> bytes:
    return _message(b"Q", _cstring(sql))


def password(secret: str | bytes) -> bytes:
    """PasswordMessage, for cleartext and MD5 passwords."""
    try:
        body = secret.encode() if isinstance(secret, str) else secret
    except UnicodeEncodeError:
        raise ConfigError("the password cannot be written in UTF-8") from None
    if b"\0" in body:
        raise ConfigError("a password cannot contain a zero byte")
    return _message(b"p", body + b"\0")


def sasl_initial_response(mechanism: str, data: bytes) -> bytes:
    return _message(b"p", _cstring(mechanism) + _INT32.pack(len(data)) + data)


def sasl_response(data: bytes) -> bytes:
    return _message(b"p", data)


def terminate() -> bytes:
    return _message(b"X", b"")


def copy_data(body: bytes) -> bytes:
    return _message(b"d", body)


def copy_done() -> bytes:
    return _message(b"c", b"")


def standby_status(lsn: int, *, unix_time: float, reply: bool) -> bytes:
    """Standby status update: reports everything up to ``lsn`` as written, flushed and applied."""
    micros = int((unix_time - POSTGRES_EPOCH) * 1_000_000)
    return copy_data(_STATUS.pack(b"r", lsn, lsn, lsn, micros, reply))


def error_response(body: bytes) -> ServerError:
    """Read an ErrorResponse or NoticeResponse."""
    fields: dict[str, str] = {}
    pos = 0
    while pos < len(body) and body[pos]:
        end = body.find(b"\0", pos + 1)
        if end < 0:
            raise ProtocolError("an ErrorResponse ends inside a field")
        # Before authentication the server's encoding is unknown and messages may be translated.
        text = body[pos + 1 : min(end, pos + 1 + MAX_FIELD)]
        fields[chr(body[pos])] = text.decode("utf-8", "replace")
        pos = end + 1
    return ServerError(
        fields.get("M", "the server gave no message"),
        sqlstate=fields.get("C", "XX000"),
        severity=fields.get("V") or fields.get("S", "ERROR"),
        detail=fields.get("D", ""),
        hint=fields.get("H", ""),
    )


def parameter_status(body: bytes) -> tuple[str, str]:
    parts = body.split(b"\0")
    if len(parts) != 3 or parts[2]:
        raise ProtocolError("a ParameterStatus is not two strings")
    return parts[0].decode("utf-8", "replace"), parts[1].decode("utf-8", "replace")


def row_description(body: bytes) -> tuple[str, ...]:
    """The column names of a RowDescription."""
    try:
        (count,) = _INT16.unpack_from(body)
        names = []
        pos = 2
        for _ in range(count):
            end = body.index(b"\0", pos)
            names.append(body[pos:end].decode("utf-8", "replace"))
            pos = end + 19
    except (struct_error, ValueError):
        raise ProtocolError("a RowDescription ends inside a column") from None
    if pos != len(body):
        raise ProtocolError("a RowDescription does not end with its last column")
    return tuple(names)


def data_row(body: bytes) -> tuple[str | None, ...]:
    """The text values of a DataRow."""
    try:
        (count,) = _INT16.unpack_from(body)
        values: list[str | None] = []
        pos = 2
        for _ in range(count):
            (length,) = _INT32.unpack_from(body, pos)
            pos += 4
            if length == -1:
                values.append(None)
                continue
            if length < 0 or pos + length > len(body):
                raise ProtocolError(f"a DataRow has a value of the impossible length {length}")
            # The server converts to UTF-8, except from SQL_ASCII, which has no known encoding.
            values.append(body[pos : pos + length].decode("utf-8", "backslashreplace"))
            pos += length
    except struct_error:
        raise ProtocolError("a DataRow ends inside a value") from None
    if pos != len(body):
        raise ProtocolError("a DataRow does not end with its last value")
    return tuple(values)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + _INT32.pack(len(body) + 4) + body


def _cstring(text: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{text!r} cannot be written in UTF-8") from None
    if b"\0" in data:
        raise ConfigError(f"{text!r} has a zero byte, which the protocol cannot carry")
    return data + b"\0"
