"""Nudged values in a Redis: the keys of one value, and the server's time, for one round trip.

The primary is asked, by a command that is packed once, and on the client's own connections but
below its layers: they would ask a replica, send a request again that makes a token, or swallow a
failure. A request that makes a token must not arrive twice: the second could come after the token
has been ended, and bring it back.
"""

from __future__ import annotations

import functools
import secrets
from typing import TYPE_CHECKING, Any, Final

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from django_pgnudge.caches.value_store import (
    FORMAT,
    MARK_TIMEOUT,
    Answer,
    Entry,
    Question,
    ValueStore,
    Witness,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from django_pgnudge.caches.redis_store import RedisStore
    from django_pgnudge.caches.value_store import Mark

_GRANT: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
return 1
"""
"""The lease is written if the mark stands, in one step with the look at it."""

_HEAD: Final = FORMAT.encode() + b" "

_NONE: Final[frozenset[str]] = frozenset()


class RedisValueStore(ValueStore):
    """Nudged values on the primary of one Redis."""

    one_clock = True

    def __init__(self, store: RedisStore) -> None:
        super().__init__(store)
        self._redis: RedisStore = store.plain
        self._layout = (type(self), self._cache.key_prefix, self._cache.version)
        self._write, self._read = self._redis.codec()
        library = self._redis.library
        self._connect = library.connect
        self._lost, self._slow = library.errors.ConnectionError, library.errors.TimeoutError

    def refusal(self) -> str | None:
        clients = self._redis.clients()
        if len(clients) > 1 or not isinstance(clients[0], self._redis.library.client):
            return (
                "its keys are spread over several servers, one of which may forget its part"
                " unseen: name one Redis, a Sentinel set, a primary with replicas, or a Redis"
                " Cluster"
            )
        return None

    def now(self, lease: str) -> float:
        ((seconds, micros),) = self._exchange(lease, [TIME], 1)
        return int(seconds) + int(micros) / 1e6

    def ask(self, question: Question) -> Answer:
        try:
            return self._ask(question)
        except self._slow:
            raise  # To ask again would take as long.
        except Exception as error:
            if not self._may_ask_again(error):
                raise
            return self._ask(question)

    def _may_ask_again(self, error: Exception) -> bool:
        """A connection had been idle for too long; a question may be put twice."""
        return isinstance(error, self._lost)

    def _ask(self, question: Question) -> Answer:
        return self._answered(question, *self._exchange(question.lease, self._packed(question), 2))

    def make(self, question: Question, tokens: Mapping[str, tuple[str, int | None]]) -> Answer:
        commands = self._making(tokens)
        data = [*commands, *self._packed(question)]
        replies = self._exchange(question.lease, data, len(commands) + 2)
        return self._answered(question, *replies[-2:])

    def _making(self, tokens: Mapping[str, tuple[str, int | None]]) -> list[bytes]:
        commands = []
        for key, (text, timeout) in tokens.items():
            end = () if timeout is None else ("EX", str(timeout))
            commands.append(pack("SET", self._key(key), text, "NX", *end))
        return commands

    def keep(self, key: str, stamp: str, value: Any, timeout: Any) -> None:
        data = b"%b%b\0%b" % (_HEAD, stamp.encode(), self._encoded(value))
        self._store_for(key, data, timeout)

    def add(self, key: str, text: str, timeout: int) -> bool:
        command = pack("SET", self._key(key), text, "NX", "EX", str(timeout))
        return self._exchange(key, [command], 1)[0] is not None

    def has(self, key: str) -> bool:
        return bool(self._exchange(key, [pack("EXISTS", self._key(key))], 1)[0])

    def drop(self, keys: Iterable[str]) -> None:
        names = list(keys)
        self._exchange(names[0], [pack("DEL", *self._redis.stored(names, None))], 1)

    def get(self, key: str) -> Any:
        (found,) = self._exchange(key, [pack("GET", self._key(key))], 1)
        return None if found is None else self._read(found)

    def set(self, key: str, value: Any, timeout: float | None) -> None:
        self._store_for(key, self._encoded(value), timeout)

    def set_text(self, key: str, text: str, timeout: int | None = None) -> None:
        until = () if timeout is None else ("EX", str(timeout))
        self._exchange(key, [pack("SET", self._key(key), text, *until)], 1)

    def touch(self, key: str, seconds: int) -> None:
        self._exchange(key, [pack("EXPIRE", self._key(key), str(seconds))], 1)

    def next_mark(self, number: int) -> int:
        # A round that comes twice, or late, knows none of the later numbers.
        return secrets.randbits(53)

    def witness(self, mark: Mark, ended: Collection[str] = ()) -> Witness:
        commands = [
            pack("MULTI"),
            *([pack("DEL", *self._redis.stored(ended, None))] if ended else ()),
            pack("GET", self._key(mark.lease)),
            *raise_mark(self._key(mark.key), mark.raised),
            TIME,
            pack("EXEC"),
        ]
        *_, answers = self._exchange(mark.lease, commands, len(commands))
        text, before, _, now = answers[-4:]
        return Witness(
            None if text is None else text.decode("ascii", "replace"),
            before == str(mark.number).encode(),
            int(now[0]) + int(now[1]) / 1e6,
        )

    def grant(self, lease: str, text: str, seconds: int, mark: str, number: int) -> bool:
        keys = self._key(mark), self._key(lease)
        words = "EVAL", _GRANT, "2", *keys, str(number), text, str(seconds)
        try:
            return bool(self._exchange(lease, [pack(*words)], 1)[0])
        except self._redis.library.errors.ResponseError:
            # An ACL that forbids scripts. What else may be wrong, the watch runs into too.
            with self._client(lease).pipeline() as pipe:
                return self._grant_watching(pipe, *keys, text, seconds, number)

    # Inside.

    def _grant_watching(
        self, pipe: Any, mark: str, lease: str, text: str, seconds: int, number: int
    ) -> bool:
        pipe.watch(mark)
        found = pipe.get(mark)
        if found is None or int(found) != number:
            return False
        pipe.multi()
        pipe.set(lease, text, ex=seconds)
        try:
            pipe.execute()
        except self._redis.library.errors.WatchError:
            return False
        return True

    def _store_for(self, key: str, data: bytes, timeout: Any) -> None:
        seconds = self._cache.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        stored = self._key(key)
        if seconds is None:
            command = pack("SET", stored, data)
        elif seconds * 1000 < 1:
            command = pack("DEL", stored)
        else:
            command = pack("SET", stored, data, "PX", str(int(seconds * 1000)))
        self._exchange(key, [command], 1)

    def _encoded(self, value: Any) -> bytes:
        data = self._write(value)
        # Both backends leave integers as they are.
        return data if isinstance(data, bytes) else str(data).encode()

    def _key(self, name: str) -> str:
        return next(self._redis.stored((name,), None))

    def _packed(self, question: Question) -> list[bytes]:
        packed = question.packed
        if packed is None or packed[0] != self._layout:
            packed = question.packed = self._layout, self._pack(question)
        return packed[1]

    def _pack(self, question: Question) -> list[bytes]:
        return [pack("MGET", *self._redis.stored(question.keys(), None)) + TIME]

    def _client(self, _key: str) -> Any:
        """The client to the server that has the key."""
        return self._redis.clients()[0]

    def _exchange(self, _key: str, data: list[bytes], replies: int) -> list[Any]:
        """Send commands once, all for the server that has the key, and their answers as they come
        over the wire."""
        pool = self._redis.pool()
        connection = self._connect(pool)
        try:
            connection.send_packed_command(data)
            return [connection.read_response(disable_decoding=True) for _ in range(replies)]
        except BaseException:
            # Half a question or half an answer must not be the next one's.
            connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def _answered(self, question: Question, found: list[bytes | None], time: Any) -> Answer:
        lease, entry, *tokens = found
        now = int(time[0]) + int(time[1]) / 1e6
        those, read, foreign = [lease, *tokens], question.read, _NONE
        if read is None or read[0] != those:
            keys = question.lease, *question.tokens
            texts, foreign = _sorted_out(zip(keys, those, strict=True))
            read = those, texts
            if not foreign:
                question.read = read
        return Answer(read[1], self._entry(entry), now, True, foreign)

    def _entry(self, data: bytes | None) -> Entry | None:
        if data is None or not data.startswith(_HEAD):
            return None
        stamp, _, value = data.partition(b"\0")
        try:
            text = stamp.decode("ascii")
        except UnicodeDecodeError:
            return None
        return Entry(text[len(_HEAD) :], functools.partial(self._read, value))


def _sorted_out(there: Iterable[tuple[str, bytes | None]]) -> tuple[dict[str, str], frozenset[str]]:
    """The texts by key, and the keys under which there is none of ours."""
    texts: dict[str, str] = {}
    foreign: set[str] = set()
    for key, data in there:
        if data is not None:
            try:
                texts[key] = data.decode("ascii")
            except UnicodeDecodeError:
                foreign.add(key)
    return texts, frozenset(foreign)


def raise_mark(stored: str, number: int) -> tuple[bytes, bytes]:
    """Commands that set a mark, say what it was, and put off its end."""
    return (
        pack("GETSET", stored, str(number)),
        pack("EXPIRE", stored, str(MARK_TIMEOUT)),
    )


def pack(*words: str | bytes) -> bytes:
    """A command as it goes over the wire."""
    parts = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n%b" % (
        len(parts),
        b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]),
    )


TIME: Final = pack("TIME")
