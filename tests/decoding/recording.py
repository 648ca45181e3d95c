"""A sink that writes down what a decoder tells it, and a decoder fed as a stream would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_pgnudge.decoding import DECODERS, DecoderOptions
from tests.decoding.columns import KEYS
from tests.wire import backend

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_pgnudge.decoding import Decoder, PrimaryKeys
    from django_pgnudge.events import Key


class Recorder:
    """A sink; `log` has one tuple for each call."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []

    def begin(self, xid: int) -> None:
        self.log.append(("begin", xid))

    def rows(self, payload: str, count: int, keys: list[Key] | None) -> None:
        self.log.append(("rows", payload, count, None if keys is None else list(keys)))

    def wants_keys(self, payload: str) -> bool:
        return True

    def message(self, content: str) -> None:
        self.log.append(("message", content))

    def commit(self, lsn: int, committed_at: float) -> None:
        self.log.append(("commit", lsn, committed_at))

    def stream_start(self, xid: int) -> None:
        self.log.append(("stream_start", xid))

    def stream_made_by(self, xid: int) -> None:
        self.log.append(("stream_made_by", xid))

    def stream_stop(self) -> None:
        self.log.append(("stream_stop",))

    def stream_commit(self, xid: int, lsn: int, committed_at: float) -> None:
        self.log.append(("stream_commit", xid, lsn, committed_at))

    def stream_abort(self, xid: int, subxid: int) -> None:
        self.log.append(("stream_abort", xid, subxid))

    def merged(self) -> dict[str, tuple[int, set[Key] | None]]:
        """Rows and keys for each payload, as the coalescer would merge them."""
        found: dict[str, tuple[int, set[Key] | None]] = {}
        for kind, *values in self.log:
            if kind == "rows":
                payload, count, keys = values
                before, known = found.get(payload, (0, set()))
                known = None if known is None or keys is None else known | set(keys)
                found[payload] = (before + count, known)
        return found


def make(plugin: str, keys: PrimaryKeys = KEYS, **options: Any) -> tuple[Decoder, Recorder]:
    recorder = Recorder()
    options.setdefault("publication", "pub")
    return DECODERS[plugin](recorder, keys, DecoderOptions(**options)), recorder


def decode(
    plugin: str, payloads: Iterable[bytes], keys: PrimaryKeys = KEYS, **options: Any
) -> list[tuple[Any, ...]]:
    """What a sink is told of these payloads, read in one go."""
    decoder, recorder = make(plugin, keys, **options)
    data = backend.stream(payloads)
    assert decoder.scan(data, 0) == len(data)
    return recorder.log


def one(plugin: str, payload: bytes, keys: PrimaryKeys = KEYS, **options: Any) -> tuple[Any, ...]:
    """What a sink is told of one payload."""
    (told,) = decode(plugin, [payload], keys, **options)
    return told


def decode_in_chunks(plugin: str, chunks: Iterable[bytes], **options: Any) -> Recorder:
    """The stream in pieces, as a feed's reader goes over it."""
    decoder, recorder = make(plugin, **options)
    buffer, pos = b"", 0
    for chunk in chunks:
        buffer = buffer[pos:] + chunk
        pos = decoder.scan(buffer, 0)
    assert pos == len(buffer)
    return recorder
