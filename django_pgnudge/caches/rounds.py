"""A round of deletes in one cache, in the order that nudged values rely on: `Round.steps`.

`django_pgnudge.caches.run` takes the steps one by one, on any backend. A `Pipeline` writes them all
at once to one Redis, on a connection of its own. Who writes need not be who waits: the daemon's
loop sends a small round where it learns of the change, and the thread of the cache waits for what
Redis says. There anything unexpected is an exception; the worker then repeats the round step by
step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from django_pgnudge.caches.client_library import is_refused
from django_pgnudge.caches.redis_value_store import pack, raise_mark
from django_pgnudge.tenancy import serving

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from django_pgnudge.caches.redis_store import RedisStore
    from django_pgnudge.caches.value_store import Mark
    from django_pgnudge.errors import UnsupportedError
    from django_pgnudge.rules import CacheRef, Deletes

AT_ONCE: Final = 4096
"""Bytes that a connection takes without waiting when everything before has been answered."""


@dataclass(frozen=True, slots=True)
class EndTokens:
    """Delete the tokens of nudged values."""

    tokens: Collection[str]


@dataclass(frozen=True, slots=True)
class DeleteKeys:
    """Delete keys, then what patterns match."""

    ref: CacheRef
    deletes: Deletes


@dataclass(frozen=True, slots=True)
class ClearVersion:
    """Delete all keys of one version of a cache."""

    ref: CacheRef


@dataclass(frozen=True, slots=True)
class RaiseMark:
    """Raise the mark and delete tokens behind it, in one step where the cache can."""

    mark: Mark
    tokens: Collection[str]


Step: TypeAlias = EndTokens | DeleteKeys | ClearVersion | RaiseMark


@dataclass(frozen=True, slots=True)
class Round:
    """What is to be deleted, and the mark to raise behind it, if there is one."""

    tokens: Collection[str] = ()
    deletes: Mapping[CacheRef, Deletes] = field(default_factory=dict)
    versions: Collection[CacheRef] = ()
    mark: Mark | None = None

    def steps(self) -> Iterator[Step]:
        """The order that readers rely on.

        Tokens are first, since readers trust what they prove. Keys are before versions: they are
        quick, and what stops a version must not keep them alive. The mark is behind all of it, and
        tokens are deleted again behind the mark: the server may have been replaced since, by one
        that remembers exactly the round before.
        """
        if self.tokens:
            yield EndTokens(self.tokens)
        for ref, deletes in self.deletes.items():
            if deletes.keys or deletes.patterns:
                yield DeleteKeys(ref, deletes)
        for ref in self.versions:
            yield ClearVersion(ref)
        if self.mark is not None:
            yield RaiseMark(self.mark, self.tokens)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something the backend cannot do at all."""

    ref: CacheRef
    error: UnsupportedError
    whole_version: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a round: keys deleted, tokens not counted, and whether the mark was the expected
    number before it was raised.

    ``refused`` says why a server will never take the round in one write.
    """

    deleted: int
    marked: bool = True
    refusals: tuple[Refusal, ...] = ()
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Packed:
    """A round as it is sent, and how to read its answers."""

    data: bytes
    answers: int
    counted: frozenset[int]
    """Which of the answers count keys."""
    mark: Mark | None
    mark_at: int | None
    """Which of the answers tells the mark that was there before."""

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

    def pack(self, round: Round) -> Packed:  # noqa: A002
        """The commands of a round without patterns and versions.

        Raises for keys that cannot be sent.
        """
        stored, plain = self._store.stored, self._store.plain.stored
        end = self._unlink(plain(round.tokens, None)) if round.tokens else b""
        commands: list[bytes] = []
        counted: set[int] = set()
        mark_at = None
        for step in round.steps():
            match step:
                case EndTokens():
                    commands.append(end)
                case DeleteKeys(ref, deletes) if not deletes.patterns:
                    counted.add(len(commands))
                    with serving(ref.tenant):
                        commands.append(self._unlink(stored(deletes.keys, ref.version)))
                case RaiseMark(mark):
                    (key,) = plain([mark.key], None)
                    mark_at = len(commands)
                    commands += raise_mark(key, mark.raised)
                    if end:
                        commands.append(end)
                case _:
                    raise ValueError(f"not for one write: {step}")
        data = b"".join(commands)
        return Packed(data, len(commands), frozenset(counted), round.mark, mark_at)

    def send(self, packed: Packed) -> None:
        """Write. Does not block if the round is small and the one before has been received."""
        self._connection.send_packed_command([packed.data], check_health=False)

    def receive(self, packed: Packed) -> Done:
        """Wait for the answers. Raises whatever was wrong with any of them."""
        deleted, marked, refused = 0, True, ""
        for at in range(packed.answers):
            try:
                answer = self._connection.read_response()
            except self._store.library.errors.ResponseError as exc:
                if not is_refused(exc) or at == packed.mark_at:
                    raise
                refused = str(exc)
                continue
            if at in packed.counted:
                deleted += int(answer)
            elif at == packed.mark_at:
                assert packed.mark is not None
                before = answer.decode("ascii", "replace") if type(answer) is bytes else answer
                marked = before == str(packed.mark.number)
        return Done(deleted, marked, refused=refused)

    def close(self) -> None:
        """The connection is of no more use."""
        self._connection.disconnect()

    def _unlink(self, stored: Iterable[str]) -> bytes:
        encoder = self._connection.encoder
        codec = encoder.encoding, encoder.encoding_errors
        return pack(b"UNLINK", *[word.encode(*codec) for word in stored])
