"""The address of a server with certificates, and whether a connection to it is encrypted."""

from __future__ import annotations

from typing import Any

import pytest
from servers.postgres import Postgres

from django_pgnudge.errors import PgNudgeError
from django_pgnudge.feed import TLS
from django_pgnudge.feed.address import Address
from django_pgnudge.feed.connect import connect

PASSWORD = "correct horse"


def address(server: Postgres, user: str = "trusted", **options: Any) -> Address:
    host = options.pop("host", "127.0.0.1")
    password = options.pop("password", PASSWORD)
    database = options.pop("database", "postgres")
    return Address(host, server.port, user, database, password, TLS(**options))


async def encrypted(where: Address) -> bool:
    """Connect; whether the server says that the connection is encrypted."""
    connection = await connect(where, replication=False)
    try:
        ((ssl_in_use,),) = await connection.rows(
            "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        )
        return ssl_in_use == "true"
    finally:
        await connection.close()


async def refused(where: Address, kind: type[PgNudgeError], why: str) -> None:
    with pytest.raises(kind, match=why):
        await encrypted(where)
