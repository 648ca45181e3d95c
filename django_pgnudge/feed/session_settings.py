"""What our sessions set for themselves, whatever a role, a database or the server has set.

`ALTER ROLE … SET` and `ALTER DATABASE … SET` reach every session. A timeout ends a stream that goes
on for days, a deferrable transaction waits for all others, another ``DateStyle`` prints keys
otherwise, and a search_path that names a schema before pg_catalog runs that schema's operators with
our rights. So each session begins with these, as parameters of its startup message. Where something
between us and the server refuses those (PgBouncer takes few), a replication session, which is never
shared, sets them when it has logged in; any other sets them within each query, for that query
alone, since the next one may run in a session of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .queries import literal

STARTUP_REFUSED: Final = ("08P01", "0A000")
"""SQLSTATEs with which poolers refuse parameters of the startup message."""

_ALWAYS: Final[Mapping[str, str]] = {
    # What a name means. If pg_temp is not in it, the schema of temporary objects comes first.
    "search_path": "pg_catalog, pg_temp",
    # How keys, times and names are printed.
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    # How a transaction begins. One that is serializable, read only and deferrable waits for others.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    # A message that flushes the log need not wait for a standby.
    "synchronous_commit": "local",
    # A WARNING in the stream tells of lost changes.
    "client_min_messages": "notice",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}

# To make a slot takes as long as the longest transaction, to decode one as long as it is large.
_REPLICATION: Final = {"lock_timeout": "0", "statement_timeout": "0"}

# The server does not notice that nothing waits for the result any more.
_QUERIES: Final = {"lock_timeout": "2s", "statement_timeout": "60s"}

_FROM_17: Final = {"transaction_timeout": "0"}


def parameters(*, replication: bool) -> dict[str, str]:
    """What every server of a version that we follow knows."""
    return {**_ALWAYS, **(_REPLICATION if replication else _QUERIES)}


def after_login(server_version: int, *, replication: bool, started: bool) -> str:
    """What is left to set of a session of our own; ``started`` if it began with `parameters`."""
    left = {} if started else parameters(replication=replication)
    return _statements("SET", {**left, **_newer(server_version)})


def in_front_of_query(server_version: int) -> str:
    """The same for one query, which follows in the same message."""
    return _statements("SET LOCAL", {**parameters(replication=False), **_newer(server_version)})


def in_transaction(server_version: int) -> str:
    """The same for the open transaction; one query, as drivers prepare no others."""
    settings = {**parameters(replication=False), **_newer(server_version)}
    return "SELECT " + ", ".join([
        f"pg_catalog.set_config({literal(name)}, {literal(value)}, true)"
        for name, value in settings.items()
    ])  # fmt: skip


def _newer(server_version: int) -> Mapping[str, str]:
    return _FROM_17 if server_version >= 170000 else {}


def _statements(command: str, settings: Mapping[str, str]) -> str:
    # These statements take no snapshot, so they wait for no transaction. A list is not quoted.
    written = {name: value if "," in value else literal(value) for name, value in settings.items()}
    return "".join([f"{command} {name} TO {value}; " for name, value in written.items()])
