"""From ``DATABASES`` to the feed's connection keywords.

Not on a byte's path: it says where the path begins. The walsender connection must go exactly where
Django's own driver would go, so libpq itself resolves the parameters (``PG*`` environment, service
file, password file, compiled-in defaults) and is asked what it found. No connection has to succeed
for that: a server that is down at start is the feed's to wait for.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

from django.db import connections

from django_pgnudge.conf import conf
from django_pgnudge.conf.libpq import ANY_SERVER, libpq_params, names_several
from django_pgnudge.errors import ConfigError, ConnectionLostError
from django_pgnudge.feed import TLS
from django_pgnudge.wire import AcceptedMethods

if TYPE_CHECKING:
    from collections.abc import Mapping

_REFUSED: Final = {
    "requirepeer": "",
    "sslcertmode": "allow",
    "sslcrldir": "",
    "krbsrvname": "postgres",
    "ssl_min_protocol_version": "TLSv1.2",
    "ssl_max_protocol_version": "",
}
"""Parameters that narrow what is acceptable and that the feed does not know, with libpq's default.

Going on without them would be less secure than what was asked for."""


_FROM_ENVIRONMENT: Final = re.compile(
    "PG(CHANNELBINDING|GSSENCMODE|HOSTADDR|KRBSRVNAME|REQUIRE.*|SERVICE|SSL.*|TARGETSESSIONATTRS)"
)
"""Environment variables that say where libpq goes, or what it accepts there."""

HOST_PATIENCE: Final = 5
"""Seconds for each of several hosts, unless ``connect_timeout`` says otherwise."""


def feed_connection(using: str) -> dict[str, Any]:
    """WalFeed's connection keywords for the database alias ``using``.

    Reads the alias's settings in use at the moment (a test database included) and
    ``PGNUDGE["CONNECTION"]`` over them. Looks up host names as libpq does, so it may block.

    Raises ConfigError for what no retry can mend, and ConnectionLostError if several hosts are
    named and none of them answers.
    """
    params = _resolve(using, libpq_params(using))
    return _keywords(using, params)


def _resolve(using: str, params: dict[str, Any]) -> dict[str, str]:
    from django.db.backends.postgresql.psycopg_any import is_psycopg3  # noqa: PLC0415

    resolved = (_resolve_psycopg3 if is_psycopg3 else _resolve_psycopg2)(using, params)
    attributes = resolved.get("target_session_attrs", "")
    if attributes not in ANY_SERVER or names_several(lambda name: resolved.get(name, "")):
        resolved.update(_host_that_answers(using, params))
    return resolved


def _resolve_psycopg3(using: str, params: Mapping[str, Any]) -> dict[str, str]:
    import psycopg  # noqa: PLC0415
    from psycopg import conninfo, pq  # noqa: PLC0415

    try:
        dsn = conninfo.make_conninfo(**params)
    except psycopg.ProgrammingError as exc:
        raise ConfigError(_mistake(using, exc)) from exc
    handle = pq.PGconn.connect_start(dsn.encode())
    try:
        found = {o.keyword.decode(): (o.val or b"").decode() for o in handle.info}
        if not handle.user or not handle.port:
            # libpq stopped at the parameters themselves, before it looked for a host.
            raise ConfigError(_mistake(using, handle.error_message.decode(errors="replace")))
        found["host"] = found["host"] or handle.host.decode()
        found["port"] = found["port"] or handle.port.decode()
        found["user"] = handle.user.decode()
        found["dbname"] = handle.db.decode()
        found["password"] = handle.password.decode()
    finally:
        handle.finish()
    return found


def _resolve_psycopg2(using: str, params: Mapping[str, Any]) -> dict[str, str]:
    psycopg2 = _driver(using)
    params = {key: value for key, value in params.items() if key != "client_encoding"}
    try:
        handle = psycopg2.connect(**params, async_=1)
    except psycopg2.ProgrammingError as exc:
        raise ConfigError(_mistake(using, exc)) from exc
    except psycopg2.OperationalError:
        # psycopg2 gives nothing back when the host is down at once: what was given is what we know.
        return _unresolved(using, params)
    try:
        info = handle.info
        found = dict(info.dsn_parameters)
        found["host"] = found.get("host") or info.host or ""
        found["port"] = found.get("port") or str(info.port)
        found["user"] = info.user
        found["dbname"] = info.dbname
        found["password"] = info.password or ""
    finally:
        handle.close()
    return found


def _unresolved(using: str, params: Mapping[str, Any]) -> dict[str, str]:
    needed = ("host", "user", "dbname", "password")
    elsewhere = any(map(_FROM_ENVIRONMENT.fullmatch, os.environ))
    if "service" in params or elsewhere or not all(params.get(name) for name in needed):
        # The rest is libpq's to fill in, and a guess would end as a wrong password.
        msg = f'DATABASES["{using}"]: the server does not answer.'
        raise ConnectionLostError(msg)
    found = {key: str(value) for key, value in params.items()}
    found.setdefault("port", "5432")
    return found


def _host_that_answers(using: str, params: dict[str, Any]) -> dict[str, str]:
    """Several hosts: libpq tries them in order, so only a connection tells which one it takes."""
    database = _driver(using)
    try:
        connection = database.connect(**{"connect_timeout": HOST_PATIENCE, **params})
    except database.OperationalError as exc:
        msg = f'None of the hosts of DATABASES["{using}"] accepts a connection: {exc}'
        raise ConnectionLostError(msg) from exc
    try:
        info = connection.info
        # The address too, where the driver tells it: of a name's several one was found right.
        hostaddr = getattr(info, "hostaddr", "") or ""
        return {"host": info.host, "hostaddr": hostaddr, "port": str(info.port)}
    finally:
        connection.close()


def _keywords(using: str, params: dict[str, str]) -> dict[str, Any]:
    for name, default in _REFUSED.items():
        if params.get(name, default) not in {"", default}:
            msg = (
                f'DATABASES["{using}"] asks libpq for {name}={params[name]}, which the walsender '
                f"connection cannot honour: remove it, or override it."
            )
            raise ConfigError(msg)
    if params.get("gssencmode") == "require":
        msg = (
            f'DATABASES["{using}"] asks for gssencmode=require, but the walsender connection '
            'has no GSSAPI encryption: set PGNUDGE["CONNECTION"]["gssencmode"] = "disable" and '
            "an sslmode, and allow that in pg_hba.conf."
        )
        raise ConfigError(msg)
    host, hostaddr = params["host"], params.get("hostaddr", "")
    keywords: dict[str, Any] = {
        "host": hostaddr or host,
        "port": _port(using, params["port"]),
        "user": params["user"],
        "database": params["dbname"],
        "password": params.get("password") or None,
    }
    if require_auth := params.get("require_auth"):
        keywords["require_auth"] = AcceptedMethods.of(require_auth).text
    # libpq has no TLS over Unix sockets either ("@" opens an abstract one).
    if keywords["host"][:1] in {"/", "@"} or params.get("sslmode") == "disable":
        binds = params.get("channel_binding") == "require"
        keywords["ssl"] = TLS("disable", channel_binding="require") if binds else False
    else:
        keywords["ssl"] = _tls(params, server_name=host if hostaddr else "")
    if (seconds := params.get("connect_timeout", "")) and float(seconds) > 0:
        keywords["connect_timeout"] = float(seconds)
    if application_name := conf.CONNECTION.get("application_name"):
        keywords["application_name"] = application_name
    return keywords


def _driver(using: str) -> Any:
    connection: Any = connections[using]
    return connection.Database


def _port(using: str, text: str) -> int:
    try:
        return int(text or 5432)
    except ValueError:
        msg = f'DATABASES["{using}"]: {text!r} is not a port number.'
        raise ConfigError(msg) from None


def _tls(params: Mapping[str, str], *, server_name: str) -> TLS:
    # Where a file is None the feed looks in libpq's places. TLS itself judges the words.
    words: dict[str, Any] = {
        "mode": params.get("sslmode") or "prefer",
        "channel_binding": params.get("channel_binding") or "prefer",
        "negotiation": params.get("sslnegotiation") or "postgres",
    }
    return TLS(
        rootcert=params.get("sslrootcert") or None,
        cert=params.get("sslcert") or None,
        key=params.get("sslkey") or None,
        key_password=params.get("sslpassword") or None,
        crl=params.get("sslcrl") or None,
        server_name=server_name or None,
        **words,
    )


def _mistake(using: str, problem: object) -> str:
    # libpq quotes parameter names and hosts in these messages, never values of passwords.
    return f'libpq refuses DATABASES["{using}"]: {str(problem).strip()}'
