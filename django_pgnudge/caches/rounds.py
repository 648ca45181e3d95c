"""A round of deletes in one write and one answer, on a connection of its own to one Redis.

Who writes need not be who waits: the daemon's loop sends a small round where it learns of the
change, and the thread of the cache waits for what Redis says. Anything unexpected is an exception;
the worker then repeats the round the regular way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django_pgnudge.caches.redis_value_store import pack, raise_mark
from django_pgnudge.tenancy import serving

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from django_pgnudge.caches.redis_store import RedisStore
    from django_pgnudge.rules import CacheRef, Kills

AT_ONCE: Final = 4096
"""Bytes that a connection takes without waiting when everything before has been answered."""


@dataclass(frozen=True, slots=True)
class RoundAnswer:
    """What came of a round: keys deleted, tokens not counted, and the mark that was there before;
    None for none.

    ``refused`` says why the server will never delete so; the mark was raised all the same.
    """

    deleted: int
    mark: str | None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    """A round as it is sent, and how to read its answers."""

    data: bytes
    answers: int
    counted: slice
    mark: int | None
    """Which of the answers tells the mark."""
    raised: int | None
    """What the mark is then."""

    @property
    def small(self) -> bool:
        """Whether sending it cannot block."""
        return len(self.data) <= AT_ONCE


class Pipeline:
    """One connection, connected when this is made; one round at a time."""

    def __init__(self, store: RedisStore, connection: Any) -> None:
        self._store = store
        self._connection = connection
        connection.connect()

    def round(
        self,
        tokens: Collection[str],
        kills: Mapping[CacheRef, Kills],
        mark: tuple[str, int] | None,
    ) -> Round:
        """Tokens, then keys, then the mark is set to its number, then tokens again.

        Raises for keys that cannot be sent.
        """
        stored, plain = self._store.stored, self._store.plain.stored
        end = self._unlink(plain(tokens, None)) if tokens else b""
        commands = [end] if end else []
        first = len(commands)
        for ref in kills:
            if kills[ref].keys:
                with serving(ref.tenant):
                    commands.append(self._unlink(stored(kills[ref].keys, ref.version)))
        counted = slice(first, len(commands))
        if mark is None:
            return Round(b"".join(commands), len(commands), counted, None, None)
        (stored_mark,) = plain([mark[0]], None)
        commands += raise_mark(stored_mark, mark[1])
        if end:
            commands.append(end)
        return Round(b"".join(commands), len(commands), counted, counted.stop, mark[1])

    def send(self, it: Round) -> None:
        """Write. Does not block if the round is small and the one before has been received."""
        self._connection.send_packed_command([it.data], check_health=False)

    def receive(self, it: Round) -> RoundAnswer:
        """Wait for the answers. Raises whatever was wrong with any of them."""
        answers: list[Any] = []
        refused = ""
        for _ in range(it.answers):
            try:
                answers.append(self._connection.read_response())
            except self._store.library.errors.ResponseError as exc:
                if not is_refused(exc) or len(answers) == it.mark:
                    raise
                refused = str(exc)
                answers.append(0)
        mark = None if it.mark is None else answers[it.mark]
        if isinstance(mark, bytes):
            mark = mark.decode("ascii", "replace")
        return RoundAnswer(sum(map(int, answers[it.counted])), mark, refused)

    def close(self) -> None:
        """The connection is of no more use."""
        self._connection.disconnect()

    def _unlink(self, stored: Iterable[str]) -> bytes:
        return self._command(b"UNLINK", stored)

    def _command(self, name: bytes, words: Iterable[str]) -> bytes:
        encoder = self._connection.encoder
        codec = encoder.encoding, encoder.encoding_errors
        return pack(name, *[word.encode(*codec) for word in words])


def is_refused(exc: Exception) -> bool:
    """Whether the server will never run this command: it has none such, or an ACL forbids it."""
    is_forbidden = type(exc).__name__ == "NoPermissionError"  # of either library
    return is_forbidden or "unknown command" in str(exc).lower()
