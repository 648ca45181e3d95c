"""The first hop: cuts a stream of bytes into messages.

Every backend message is one type byte, a four-byte length that includes itself, and a body
(PostgreSQL documentation, "Message Formats"). The framer keeps unconsumed bytes in one ``bytes``
object, so that a decoder can scan many messages in place.
"""

from __future__ import annotations

from struct import Struct

from ..errors import ProtocolError

HEADER = Struct("!cI")

COPY_DATA = b"d"

MAX_MESSAGE = 16 * 1024 * 1024
"""The longest message, in bytes, that is kept: enough for any query this client sends."""

MAX_COPY_DATA = 1 << 30
"""The longest CopyData message a server can send: its buffers end at 1 GiB (MaxAllocSize)."""

_TYPES = frozenset(b"RKSZENTDCIAWGHdcv")


class Framer:
    """The unconsumed bytes, and where the next message in them starts.

    ``buffer[pos:]`` has arrived and is not consumed. A caller may advance ``pos`` over whole
    messages itself. While a message is incomplete the framer only collects its pieces, so a long
    message is copied once and not once a piece.
    """

    __slots__ = ("_have", "_need", "_pieces", "_skip", "buffer", "pos")

    def __init__(self) -> None:
        self.buffer = b""
        self.pos = 0
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 0
        self._skip = 0

    def receive(self, data: bytes) -> bool:
        """Add bytes that arrived; True if there may be a complete message."""
        if self._skip:
            dropped = min(self._skip, len(data))
            self._skip -= dropped
            data = data[dropped:]
        if not data:
            return False
        self._pieces.append(data)
        self._have += len(data)
        if self._have < self._need:
            return False
        rest = self.buffer[self.pos :] if self.pos < len(self.buffer) else b""
        self.buffer = b"".join((rest, *self._pieces)) if rest or len(self._pieces) > 1 else data
        self.pos = 0
        self._pieces.clear()
        self._have = self._need = 0
        return True

    @property
    def pending(self) -> int:
        """The number of bytes that have arrived and are not consumed."""
        return len(self.buffer) - self.pos + self._have

    def at_hand(self) -> tuple[bytes, bytes] | None:
        """The next message as (type, body) if it is complete and valid, else None.

        `next_message` then tells which of the two it is.
        """
        pos, buffer = self.pos, self.buffer
        if pos + 5 > len(buffer):
            return None
        kind, length = HEADER.unpack_from(buffer, pos)
        stop = pos + 1 + length
        if stop > len(buffer) or not 4 <= length <= MAX_MESSAGE or kind[0] not in _TYPES:
            return None
        self.pos = stop
        return kind, buffer[pos + 5 : stop]

    def next_message(self) -> tuple[bytes, bytes] | None:
        """The next complete message as (type, body), or None until more has arrived."""
        message = self.at_hand()
        if message is None and (header := self._header()) is not None:
            kind, length = header
            if length > MAX_MESSAGE:
                raise ProtocolError(
                    f"the server announced a message {kind!r} of {length} bytes; "
                    f"at most {MAX_MESSAGE} are accepted"
                )
            self._available(self.pos + 1 + length)
        return message

    @property
    def oversized(self) -> bool:
        """Whether the next message is a CopyData message too long to hold."""
        header = self._header()
        return header is not None and header[0] == COPY_DATA and header[1] > MAX_MESSAGE

    def next_oversized(self, prefix: int) -> bytes | None:
        """The first ``prefix`` bytes of the body of a CopyData message too long to hold.

        The rest of the message is dropped as it arrives. None if the next message is not such a
        message, or if its prefix has not arrived.
        """
        header = self._header()
        if header is None or not self.oversized or not self._available(self.pos + 5 + prefix):
            return None
        body = self.buffer[self.pos + 5 : self.pos + 5 + prefix]
        stop = self.pos + 1 + header[1]
        self._skip = max(0, stop - len(self.buffer))
        self.pos = min(stop, len(self.buffer))
        return body

    def _header(self) -> tuple[bytes, int] | None:
        if not self._available(self.pos + 5):
            if self.pos < len(self.buffer) and self.buffer[self.pos] not in _TYPES:
                self._reject(self.buffer[self.pos : self.pos + 1])
            return None
        kind: bytes
        kind, length = HEADER.unpack_from(self.buffer, self.pos)
        if kind[0] not in _TYPES:
            self._reject(kind)
        if length < 4:
            raise ProtocolError(f"message {kind!r} has the impossible length {length}")
        if length > (MAX_COPY_DATA if kind == COPY_DATA else MAX_MESSAGE):
            raise ProtocolError(f"message {kind!r} announces {length} bytes, more than allowed")
        return kind, length

    def _available(self, stop: int) -> bool:
        if stop <= len(self.buffer):
            return True
        self._need = stop - len(self.buffer)
        return False

    @staticmethod
    def _reject(kind: bytes) -> None:
        raise ProtocolError(
            f"the server sent {kind!r} where a message starts: "
            "it does not speak the PostgreSQL protocol"
        )
