"""daemon/connect_hints.py: which failures are permanent, and what is said of them."""

from __future__ import annotations

import psycopg
import pytest

from django_pgnudge.daemon.connect_hints import explain
from django_pgnudge.errors import AuthenticationError, ConnectionLostError, ServerError, TLSError


@pytest.mark.parametrize(
    ("sqlstate", "message", "words"),
    [
        ("42501", 'library "wal2json" may not be used as an output plugin',
         "output_plugin_libraries"),
        ("42501", "permission denied to start WAL sender", "REPLICATION attribute"),
        ("58P01", 'could not access file "wal2json": No such file', "not installed"),
        ("42704", 'publication "p" does not exist', 'PGNUDGE["PUBLICATION"]'),
        ("55000", 'logical decoding requires "wal_level" >= "logical"', "wal_level = logical"),
        ("0A000", "logical decoding cannot be used while in recovery", "is a standby"),
        ("28P01", 'password authentication failed for user "joe"', "Check user and password"),
        ("28000", "no pg_hba.conf entry for replication connection", "pg_hba.conf needs a line"),
        ("28000", 'role "joe" does not exist', "Check the user"),
        ("3D000", 'database "x" does not exist', "Check the database's name"),
        ("08P01", "unsupported startup parameter: replication", "pgbouncer"),
    ],
)  # fmt: skip
def test_permanent_server_errors_are_explained(sqlstate: str, message: str, words: str) -> None:
    assert words in (explain(ServerError(message, sqlstate=sqlstate)) or "")


@pytest.mark.parametrize(
    "error",
    [
        ServerError("the database system is starting up", sqlstate="57P03"),
        ServerError("sorry, too many clients already", sqlstate="53300"),
        ServerError("all replication slots are in use", sqlstate="53400"),
        ServerError("replication slot is active", sqlstate="55006"),
        ServerError("the object is not ready", sqlstate="55000"),
        ServerError("cannot do that yet", sqlstate="0A000"),
        ConnectionLostError("refused"),
        psycopg.OperationalError("down"),
        ValueError("a bug"),
    ],
)
def test_what_may_pass_is_waited_for(error: Exception) -> None:
    assert explain(error) is None


def test_failures_of_identity_are_permanent() -> None:
    assert explain(AuthenticationError("the server's signature is wrong"))
    assert explain(TLSError("the certificate has expired"))
