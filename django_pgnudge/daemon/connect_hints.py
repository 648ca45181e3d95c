"""Which failures of a first connect no waiting will mend, and what mends them.

A server that is down, starting or full is waited for; a wrong password is not. The SQLSTATEs are
those of the PostgreSQL manual, appendix "PostgreSQL Error Codes".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django_pgnudge.errors import (
    AuthenticationError,
    ConfigError,
    DecodeError,
    ProtocolError,
    ServerError,
    TLSError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_CONNECTION: Final = 'DATABASES or PGNUDGE["CONNECTION"]'


def explain(exc: BaseException) -> str | None:
    """A permanent mistake and its fix, or None for what may pass by itself."""
    advice = advise(exc)
    return None if advice is None else f"{exc}. {advice}" if advice else str(exc)


def advise(exc: BaseException) -> str | None:
    """The fix alone, empty where the error names it already, or None as for ``explain``."""
    match exc:
        case ServerError():
            find = _ADVICE.get(exc.sqlstate)
            return find(exc) if find else None
        case ConfigError():
            return ""
        case AuthenticationError():
            return "Check the password and the method pg_hba.conf asks for."
        case TLSError():
            return (
                f"Check sslmode, sslrootcert, sslcert and sslkey in {_CONNECTION} "
                "against what the server offers."
            )
        case DecodeError():
            return None
        case ProtocolError():
            return (
                "What answers there does not speak PostgreSQL's replication protocol: "
                f"check host and port in {_CONNECTION} (a pooler such as pgbouncer "
                "cannot stand in for the server)."
            )
        case _:
            return None


def _wal_level(exc: ServerError) -> str | None:
    if "wal_level" not in exc.message:
        return None
    return "Set wal_level = logical in postgresql.conf and restart PostgreSQL."


def _standby(exc: ServerError) -> str | None:
    if "recovery" not in exc.message:
        return None
    return (
        "What answers there is a standby, and before PostgreSQL 16 only a primary can decode its "
        f"log: name the primary in {_CONNECTION}, or several hosts with "
        "target_session_attrs=read-write."
    )


def _privilege(exc: ServerError) -> str:
    if "output plugin" in exc.message:
        return (
            "The server's output_plugin_libraries does not allow this plugin: add its library "
            'there and reload, or set PGNUDGE["PLUGIN"] to "pgoutput" (with '
            'PGNUDGE["PUBLICATION"]) or "test_decoding".'
        )
    if "for table" in exc.message or "for schema" in exc.message:
        return "Grant the role what it lacks."
    return (
        "The role needs the REPLICATION attribute (ALTER ROLE … REPLICATION; on Amazon RDS "
        "GRANT rds_replication TO …), or name a role that has it in "
        'PGNUDGE["CONNECTION"]["user"].'
    )


def _missing_object(exc: ServerError) -> str | None:
    if "publication" in exc.message:
        return (
            "Create it (django_pgnudge.operations.CreatePublication in a migration) or correct "
            'PGNUDGE["PUBLICATION"].'
        )
    return _missing_library(exc)


def _missing_library(exc: ServerError) -> str | None:
    return (
        "The output plugin is not installed on the server: install it (Debian: "
        'postgresql-NN-wal2json) or set PGNUDGE["PLUGIN"] to "test_decoding" or "pgoutput".'
    )


def _hba(exc: ServerError) -> str:
    if "pg_hba" in exc.message:
        return (
            "pg_hba.conf needs a line for this role, database and address (logical replication "
            'matches the database\'s name, not the word "replication"), then a reload.'
        )
    return f"Check the user in {_CONNECTION}, and that the role may log in."


_THE_SERVER: Final = 'name the server itself in PGNUDGE["CONNECTION"].'

_ADVICE: Final[dict[str, Callable[[ServerError], str | None]]] = {
    "08P01": lambda exc: (
        f"A pooler such as pgbouncer refuses replication connections: {_THE_SERVER}"
        if "replication" in exc.message
        else None
    ),
    "42601": lambda exc: (
        "A pooler that is told to ignore the parameter replication has made an ordinary session of"
        f" it: {_THE_SERVER}"
        if "REPLICATION_SLOT" in exc.message
        else None
    ),
    "0A000": _standby,
    "55000": _wal_level,
    "42501": _privilege,
    "42704": _missing_object,
    "58P01": _missing_library,
    "28P01": lambda _: f"Check user and password in {_CONNECTION}.",
    "28000": _hba,
    "3D000": lambda _: f"Check the database's name in {_CONNECTION}.",
}
