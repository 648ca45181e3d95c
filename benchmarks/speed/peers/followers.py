"""What follows a database, in a process of its own: our feed, pgnudge's, and pg_recvlogical."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from servers.process import wait_until

from benchmarks.speed.clients import Client, Job
from benchmarks.speed.report import OURS, PGNUDGE
from django_pgnudge.decoding import DECODERS, DecoderOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.postgres import Postgres

__all__ = [
    "OURS_WITHOUT_KEYS",
    "PG_RECVLOGICAL",
    "Source",
    "contenders",
    "following",
    "walsender",
]

OURS_WITHOUT_KEYS: Final = f"{OURS}, keys=False"
PG_RECVLOGICAL: Final = "pg_recvlogical"

PATIENT: Final = {"liveness_timeout": 3600.0}
"""A benchmark may hold a stream up for longer than a server may be silent."""


@dataclass(frozen=True)
class Source:
    """What is followed: a database of a server, with a plugin, for the tables of a publication."""

    server: Postgres
    database: str
    plugin: str
    publication: str
    unix: bool = False

    @property
    def host(self) -> str:
        return str(self.server.socket_dir) if self.unix else self.server.host


def contenders(source: Source) -> list[str]:
    """Those that can follow it."""
    able = [OURS, OURS_WITHOUT_KEYS, PG_RECVLOGICAL]
    # pgnudge speaks TCP only and has no pgoutput.
    return able if source.unix or source.plugin == "pgoutput" else [*able, PGNUDGE]


@contextlib.contextmanager
def following(
    contender: str, source: Source, job: Job, *, queue: int | None = None
) -> Iterator[Client]:
    """The contender's process, streaming; `job` says which tables and how many rows.

    queue: what pgnudge may hold, if it is not twice these rows.
    """
    with contextlib.ExitStack() as stack:
        if contender == PG_RECVLOGICAL:
            command = stack.enter_context(_pg_recvlogical(source))
            job = replace(job, client="pipe", command=command)
        else:
            job = replace(job, client="feed", **_feed(contender, source, queue or 2 * job.rows))
        client = stack.enter_context(Client(job))
        client.wait_until_live()
        wait_until(lambda: walsender(source.server) is not None, "the stream to begin")
        yield client


def walsender(server: Postgres) -> int | None:
    """The process id of the one that streams."""
    found = server.execute("SELECT pid FROM pg_stat_replication WHERE state = 'streaming'")
    return found[0][0] if found else None


def _feed(contender: str, source: Source, queue: int) -> dict[str, Any]:
    keywords: dict[str, Any] = {
        "host": source.host,
        "port": source.server.port,
        "user": source.server.user,
        "database": source.database,
        "plugin": source.plugin,
        **PATIENT,
    }
    if contender == PGNUDGE:
        # It queues rows: with its own 8192 it would lose count, and say Resync.
        return {"feed": "pgnudge", "keywords": keywords | {"raw_queue_size": queue}}
    if source.plugin == "pgoutput":
        keywords["publication"] = source.publication
    if contender == OURS_WITHOUT_KEYS:
        keywords["keys"] = False
    return {"feed": "django_pgnudge", "keywords": keywords}


@contextlib.contextmanager
def _pg_recvlogical(source: Source) -> Iterator[list[str]]:
    """Its command line, with the plugin's options that our feed asks for; makes its slot."""
    server = source.server
    slot = "pg_recvlogical"
    major, minor = server.installation.version
    chosen = DECODERS[source.plugin].start_options(
        DecoderOptions(publication=source.publication), major * 10_000 + minor
    )
    server.execute(
        f"SELECT pg_create_logical_replication_slot('{slot}', '{source.plugin}')", source.database
    )
    try:
        yield [
            str(server.installation.program(PG_RECVLOGICAL)),
            f"--dbname={server.dsn(source.database, host=source.host)}",
            f"--slot={slot}",
            "--start",
            "--no-loop",
            "--file=-",
            *(f"--option={name}={value}" for name, value in chosen.items()),
        ]
    finally:
        # It is left alone with its slot if its parent was interrupted.
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        wait_until(lambda: not _active(server, slot), "the slot to be released")
        server.execute(f"SELECT pg_drop_replication_slot('{slot}')", source.database)


def _active(server: Postgres, slot: str) -> bool:
    sql = f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{slot}' AND active"
    return bool(server.execute(sql))
