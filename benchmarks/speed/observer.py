"""Sees keys go, without looking for them: `python -m benchmarks.speed.observer JSON`.

Redis tells a subscriber of each deletion (`notify-keyspace-events`) as it executes it. The observer
sleeps until then, takes the time before anything else, and tells its parent. It is a process of
its own: a thread would wait for the interpreter its parent is busy with. Times are of
time.perf_counter(), one clock for all processes of a host on Linux.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from typing import Any, Final

from benchmarks.speed.child import end_with_parent, say
from benchmarks.speed.site.tables import STORED

__all__ = ["SETTINGS", "main"]

SETTINGS: Final = {"notify-keyspace-events": "Kg"}
"""Of the Redis that is observed."""

CHANNEL: Final = "__keyspace@0__:"

_MESSAGE = re.compile(
    rb"\*3\r\n\$7\r\nmessage\r\n\$\d+\r\n" + CHANNEL.encode() + rb"(.*?)\r\n\$\d+\r\n(\w+)\r\n"
)


def main(text: str) -> None:
    """Watch the keys of the tables with these numbers; say [number, time] when one goes."""
    job: dict[str, Any] = json.loads(text)
    end_with_parent()
    numbers = {STORED[number].encode(): number for number in job["tables"]}
    with socket.create_connection(("127.0.0.1", job["redis"])) as redis:
        redis.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        channels = " ".join(CHANNEL + key.decode() for key in numbers)
        redis.sendall(f"SUBSCRIBE {channels}\r\n".encode())
        say("ready")
        heard = b""
        while more := redis.recv(65536):
            now = time.perf_counter()
            heard += more
            end = 0
            for message in _MESSAGE.finditer(heard):
                end = message.end()
                if message[2] == b"del":
                    say([numbers[message[1]], now])
            heard = heard[end:] if end else heard[-4096:]


if __name__ == "__main__":
    main(sys.argv[1])
