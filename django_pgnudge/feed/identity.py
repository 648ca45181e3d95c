"""Which server answers: a name may lead to another one while connections to the old stay open.

After a failover the old primary may live on, with all its connections, and nothing on those
connections tells. Only a new connection goes where all others go from then on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..errors import OtherServerError, ProtocolError, ServerError
from .connection import Rows

# pg_control_checkpoint() has a new timeline at the next checkpoint, the names of log files have it
# at once. A standby may follow its primary to another timeline and is still the same server.
_IDENTITY = """
SELECT extract(epoch FROM pg_catalog.pg_postmaster_start_time())::pg_catalog.text,
       pg_catalog.pg_is_in_recovery()::pg_catalog.text,
       (SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()),
       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.left(
           pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8) END
"""

# A server never changes its system identifier while it runs, and its timeline only when it is
# promoted. So where these functions cannot be called, the rest is enough.
_PLAIN_IDENTITY = """
SELECT extract(epoch FROM pg_catalog.pg_postmaster_start_time())::pg_catalog.text,
       pg_catalog.pg_is_in_recovery()::pg_catalog.text, NULL, NULL
"""

# SQLSTATEs of a function that a role, or a server derived from PostgreSQL, may not call.
_CANNOT_CALL = ("42501", "42883", "0A000")


@dataclass(frozen=True, slots=True)
class Identity:
    """One run of one server, in one role.

    ``started`` is the Unix time at which its postmaster started, to the microsecond, as text.
    ``system`` and ``timeline`` (None in recovery) are None where the server does not tell them.
    """

    started: str
    in_recovery: bool
    system: str | None
    timeline: str | None

    def __str__(self) -> str:
        role = "a standby" if self.in_recovery else "a primary"
        timeline = "" if self.timeline is None else f" on timeline {int(self.timeline, 16)}"
        system = "" if self.system is None else f" of system {self.system}"
        return f"{role}{system}{timeline}, started at {self.started}"


async def identify(rows: Callable[..., Awaitable[Rows]]) -> Identity:
    """Query the identity; ``rows`` is `Connection.rows` or has its shape."""
    try:
        found = await rows(_IDENTITY, columns=4, at_least=1)
    except ServerError as error:
        if error.sqlstate not in _CANNOT_CALL:
            raise
        found = await rows(_PLAIN_IDENTITY, columns=4, at_least=1)
    started, in_recovery, system, timeline = found[0]
    if started is None or in_recovery not in ("true", "false"):
        raise ProtocolError(f"the server said of itself {found[0]!r:.100}")
    return Identity(started, in_recovery == "true", system, timeline)


async def require_same(
    rows: Callable[..., Awaitable[Rows]], expected: Identity, where: object
) -> None:
    """Raise OtherServerError unless the server is the ``expected`` one."""
    found = await identify(rows)
    if found != expected:
        raise OtherServerError(
            f"a new connection to {where} meets {found}; the stream comes from {expected}"
        )
