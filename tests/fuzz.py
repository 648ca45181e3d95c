"""Messages of a server, mutated, against the session and the decoders.

    python -m tests.fuzz --messages 1000000 --seed 7

Whatever a server sends ends in a documented error or in nothing: no other exception, no hang, no
growth without bound. Prints a summary as JSON and exits with 1 if that was not so; a violation is
told with the seed and the case that repeat it.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import re
import resource
import sys
import traceback
from collections import Counter
from contextlib import contextmanager
from struct import pack
from typing import TYPE_CHECKING, Any

from django_pgnudge.decoding import DECODERS, DecoderOptions
from django_pgnudge.errors import DecodeError, PgNudgeError
from django_pgnudge.feed.coalescer import Coalescer
from django_pgnudge.wire import Credentials, Session, State, XLogData, framing, session
from tests.decoding import pgoutput_messages as pg
from tests.decoding.columns import column
from tests.wire import backend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django_pgnudge.decoding import Decoder

KEYS = {
    "public.t": [column("id", "int4")],
    "public.pair": [column("b", "text"), column("a", "int8")],
}
HANG = 60.0
"""Seconds without a finished case after which the run is ended with every thread's stack."""
MAX_GROWTH = 256 * 1024 * 1024

LOGIN = [
    *(backend.authentication(code) for code in range(13)),
    backend.authentication(5, b"salt"),
    backend.sasl("SCRAM-SHA-256"),
    backend.sasl("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"),
    backend.authentication(11, b"r=nonce,s=c2FsdHNhbHRzYWx0,i=4096"),
    backend.authentication(12, b"v=AAAA"),
    backend.parameter("server_version", "15.20"),
    backend.key_data(),
    backend.message(b"v", b"\0\3\0\0\0\0\0\0"),
    backend.ready(),
]
ANSWERS = [
    backend.row_description("a", "b"),
    backend.data_row("1", None),
    backend.complete(),
    backend.message(b"I"),
    backend.ready(),
    backend.error("no", "42P01"),
    backend.error("bye", "57P01", "FATAL"),
    backend.notice(),
    backend.copy_both(),
    backend.message(b"A", b"\0\0\0\1x\0y\0"),
    backend.message(b"G", b"\0\0\0"),
]
STREAM = [
    backend.keepalive(0x2000),
    backend.keepalive(0x2000, reply=True),
    backend.notice(),
    backend.parameter("TimeZone", "UTC"),
    backend.copy_done(),
    backend.error("publication gone", "42704"),
    backend.xlog(b""),
    backend.xlog(b"x" * 3000),
]
_W2J = b'{"action":"%b","xid":700,"timestamp":"2000-01-01 00:00:00+00"'
_W2J_TABLE = b',"schema":"public","table":"t"'
_W2J_ROW = _W2J + _W2J_TABLE + b',"columns":[{"name":"id","value":1},{"name":"n","value":"x"}]}'
PAYLOADS = {
    "pgoutput": [
        pg.begin(),
        pg.relation(1, "t", ["id", "name"]),
        pg.relation(2, "pair", ["a", "b"], ["a", "b"]),
        pg.insert(1, "1", "x"),
        pg.update(1, ["2", pg.UNCHANGED], ["1", None]),
        pg.update(1, ["2", "x"], ["1", "y"], b"O"),
        pg.delete(2, "7", "é"),
        pg.truncate(1, 2),
        pg.message(b"prices"),
        pg.origin(),
        pg.type_name(),
        pg.insert(1, "1", "x" * 3000),
        pg.commit(),
        pg.stream_start(800),
        pg.streamed(pg.relation(1, "t", ["id", "name"])),
        pg.streamed(pg.insert(1, "1", "x")),
        pg.streamed(pg.update(1, ["2", "x"], ["1", "y"], b"O"), 801),
        pg.streamed(pg.insert(1, "1", "x" * 3000), 802),
        pg.streamed(pg.message(b"prices"), 802),
        pg.streamed(pg.truncate(1, 2), 803),
        pg.stream_stop(),
        pg.stream_abort(800, 801),
        pg.begin(),
        pg.insert(1, "1", "x"),
        pg.commit(),
        pg.stream_start(800, first=False),
        pg.streamed(pg.delete(2, "7", "é"), 801),
        pg.stream_stop(),
        pg.stream_commit(800),
        pg.stream_start(804),
        pg.stream_stop(),
        pg.stream_abort(804),
    ],
    "wal2json": [
        _W2J % b"B" + b"}",
        _W2J_ROW % b"I",
        _W2J_ROW % b"U",
        _W2J % b"D" + _W2J_TABLE + b',"identity":[{"name":"id","value":2}]}',
        _W2J % b"T" + _W2J_TABLE + b"}",
        _W2J % b"M" + b',"transactional":true,"prefix":"pgnudge","content":"prices"}',
        _W2J_ROW.replace(b"x", b"x" * 3000) % b"I",
        _W2J % b"C" + b"}",
    ],
    "test_decoding": [
        b"BEGIN 700",
        b"table public.t: INSERT: id[integer]:1 name[text]:'it''s'",
        b'table public."quo""te: x": INSERT: id[integer]:1',
        b"table public.t: UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:2 name[text]:'x'",
        b"table public.pair: DELETE: a[bigint]:7 b[character varying(9)]:'x'",
        b"table public.t, public.pair: TRUNCATE: (no-flags)",
        b"message: transactional: 1 prefix: pgnudge, sz: 6 content:prices",
        b"table public.t: INSERT: name[text]:'%b' id[integer]:1" % (b"x" * 3000),
        b"COMMIT 700 (at 2000-01-01 00:00:00.5+00)",
    ],
}
INTERESTING = [0, 1, 2, 3, 4, 5, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1999, 2001, 1 << 24, 1 << 30,
               0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]  # fmt: skip
TOKENS = [b'"', b"'", b"\\", b"{", b"[", b"]", b"}", b":", b",", b"\0", b"\\u", b"\\ud800", b"null",
          b"9" * 5000, b"-", b"1e999", b"NaN", b"\xff", b'""' * 50, b"[" * 2000, b" ", b"(",
          "\u0661".encode(), b"0001-01-01 00:00:00+23", b"infinity", b"public."]  # fmt: skip


# Whole values, in JSON and in test_decoding's lines, and what to put in their place.
_VALUE = re.compile(rb"(?<=[:=[])(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'|-?\d+|true|false|null)")
_NUMBER = re.compile(rb"\d+")
VALUES = [
    b"null", b"true", b"[]", b"{}", b"[1]", b'{"a":[]}', b"[" * 950 + b"]" * 950, b"-1", b"0",
    b"9" * 20, b"9" * 5000, b"1.5", b"1e999", b"NaN", b"Infinity", b'""', b'"\\ud800"',
    b'"\\"}"', b'"x\\\\"', b'"\xff"', b"''", b"''''", b"'\xff'", b'"T"', b'"M"', b'"I"',
    b"'" + b"x" * 9000 + b"'", b'"' + b"x" * 9000 + b'"', '"\u0661\u00b2"'.encode(),
    "\u0661".encode(),
]  # fmt: skip


def mutate_value(data: bytes, rng: random.Random) -> bytes:
    """Another value where one stands, so that what is around it is still read."""
    found = list(rng.choice((_VALUE, _NUMBER)).finditer(data))
    if not found:
        return data
    match = rng.choice(found)
    return data[: match.start()] + rng.choice(VALUES) + data[match.end() :]


def mutate(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        data = mutate_value(data, rng)
        if rng.random() < 0.8:
            return data
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        place = rng.randrange(len(changed) + 1)
        match rng.randrange(8):
            case 0 if place < len(changed):
                changed[place] ^= 1 << rng.randrange(8)
            case 1 if place < len(changed):
                changed[place] = rng.randrange(256)
            case 2:
                del changed[place : place + rng.choice((1, 2, 4, 8, 100))]
            case 3:
                changed[place:place] = rng.choice(TOKENS)
            case 4:
                changed[place : place + 4] = pack("!I", rng.choice(INTERESTING))
            case 5:
                stop = place + rng.randrange(40)
                changed[place:place] = changed[place:stop] * rng.choice((1, 1, 3, 50))
            case 6:
                del changed[place:]
            case _:
                changed[place : place + 1] = rng.choice(TOKENS)
    return bytes(changed)


def one_message(case: Case, rng: random.Random) -> bytes:
    """A message, perhaps mutated as a whole, perhaps in what it carries."""
    if case.pool is STREAM and rng.random() < 0.95:
        payloads = PAYLOADS[case.plugin]
        case.place = (case.place + 1) % len(payloads)
        payload = payloads[case.place] if rng.random() < 0.95 else rng.choice(payloads)
        if rng.random() < 0.15:
            payload = mutate(payload, rng)
        lsn = rng.choice((0x1000, 0, (1 << 64) - 1))
        data = backend.xlog(payload, lsn, lsn)
    else:
        data = rng.choice(case.pool if rng.random() < 0.9 else (*LOGIN, *ANSWERS, *STREAM))
        if rng.random() < 0.2:
            return backend.message(data[:1], mutate(data[5:], rng))
    return mutate(data, rng) if rng.random() < 0.03 else data


class Case:
    """One session in some state, fed with a few messages in pieces."""

    def __init__(self, rng: random.Random) -> None:
        self.plugin = rng.choice(list(DECODERS))
        tls = rng.choice((None, b"\x17" * 32))
        self.session = Session(
            Credentials("jane", rng.choice((None, "secret")), tls), database="x", replication=True
        )
        self.coalescer = Coalescer(max_tables=5, max_keys=3)
        self.decoder: Decoder = DECODERS[self.plugin](
            self.coalescer, KEYS, DecoderOptions(publication="p", max_keys=3)
        )
        self.fed = 0
        self.sent = 0
        self.place = -1
        state = rng.randrange(8)
        if state >= 1:
            self.feed(backend.login())
        if state >= 3:
            self.feed(backend.copy_both())
        self.pool = (LOGIN, LOGIN, ANSWERS, STREAM)[min(state, 3)]

    def feed(self, data: bytes) -> None:
        self.fed += len(data)
        if self.session.receive(data):
            self.read()
        self.sent += len(self.session.data_to_send())

    def read(self) -> None:
        """What the feed's reader does."""
        made = self.session
        try:
            while True:
                if made.state is State.STREAM:
                    made.framer.pos = self.decoder.scan(made.framer.buffer, made.framer.pos)
                event = made.next_event()
                if event is None:
                    break
                if isinstance(event, XLogData):
                    if event.complete:
                        raise DecodeError("empty message")
                    self.decoder.take_prefix(event.payload)
                self.coalescer.release()
                if made.state is State.IDLE:
                    made.query("SELECT 1")
        except PgNudgeError as error:
            made.fail(error)

    def check(self) -> None:
        made = self.session
        pending = made.framer.pending
        assert pending <= self.fed, "bytes were made up"
        assert made.error is None or isinstance(made.error, PgNudgeError)
        assert (made.error is None) or made.state is State.CLOSED
        assert len(str(made.error)) < 20_000, "an endless error message"
        assert len(made.parameters) <= 257
        assert self.sent < 100_000, "an endless answer"
        if made.state is State.CLOSED:
            assert not made.receive(b"x" * 100)
            assert made.next_event() is None
        made.receive_eof()
        assert made.state is State.CLOSED
        self.coalescer.release_open()
        for streamed in self.coalescer.streams.values():
            self.coalescer.release_streamed(streamed, streamed.untold | {streamed.xid})
        taken = self.coalescer.take()
        repr(taken).encode("utf-8")
        self.coalescer.reset()


@contextmanager
def small_limits(*, small: bool) -> Iterator[None]:
    """With these the oversized path is met by messages of a few thousand bytes."""
    before = framing.MAX_MESSAGE, session.OVERSIZED_PREFIX
    if small:
        framing.MAX_MESSAGE, session.OVERSIZED_PREFIX = 2000, 300
    try:
        yield
    finally:
        framing.MAX_MESSAGE, session.OVERSIZED_PREFIX = before


def run_case(rng: random.Random) -> tuple[int, PgNudgeError | None]:
    """One case: how many messages it had, and how its session ended."""
    with small_limits(small=rng.random() < 0.5):
        case = Case(rng)
        step = rng.choice((1, 7, 100, 5000, 1 << 20))
        count, most = 0, rng.randrange(1, 60)
        while count < most and case.session.state is not State.CLOSED:
            several = rng.randrange(1, 8)
            data = b"".join(one_message(case, rng) for _ in range(several))
            if rng.random() < 0.02:
                data = data[: rng.randrange(len(data) + 1)]
            small = step if len(data) < 4000 else max(step, 50)
            for start in range(0, len(data), small):
                case.feed(data[start : start + small])
            count += several
        error = case.session.error
        case.check()
    return count, error


def fuzz(messages: int, seed: int) -> dict[str, Any]:
    """Run cases until so many messages were sent; the summary."""
    ends: Counter[str] = Counter()
    violations: list[dict[str, Any]] = []
    sent = number = 0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while sent < messages and len(violations) < 10:
        # Each case has its own generator, so that it can be repeated alone.
        rng = random.Random(f"{seed}/{number}")
        try:
            count, error = run_case(rng)
            sent += count
            ends[type(error).__name__] += 1
        except Exception as error:
            sent += 1
            violations.append(
                {
                    "case": f"{seed}/{number}",
                    "exception": repr(error)[:500],
                    "where": traceback.format_exc().splitlines()[-6:-1],
                }
            )
        number += 1
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024
    if growth > MAX_GROWTH:
        violations.append({"case": "all", "exception": f"memory grew by {growth} bytes"})
    return {
        "seed": seed,
        "messages": sent,
        "cases": number,
        "ends": dict(sorted(ends.items())),
        "memory_growth": growth,
        "violations": violations,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    summary: dict[str, Any] = {"seed": options.seed, "messages": 0, "cases": 0, "violations": []}
    ends: Counter[str] = Counter()
    growth = 0
    step = 20_000
    while summary["messages"] < options.messages and not summary["violations"]:
        faulthandler.dump_traceback_later(HANG, exit=True, file=sys.__stderr__ or 2)
        part = fuzz(
            min(step, options.messages - summary["messages"]),
            options.seed * 1_000_003 + summary["cases"],
        )
        ends.update(part["ends"])
        growth += part["memory_growth"]
        summary["messages"] += part["messages"]
        summary["cases"] += part["cases"]
        summary["violations"] += part["violations"]
    faulthandler.cancel_dump_traceback_later()
    summary |= {"ends": dict(sorted(ends.items())), "memory_growth": growth}
    sys.stdout.write(json.dumps(summary, indent=2) + "\n")
    return 1 if summary["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
