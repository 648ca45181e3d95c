"""Reads from a server what the database checks need, in a few statements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.db import Error, transaction

from django_pgnudge.conf import conf
from django_pgnudge.registry.catalog import payload_for, pinned, server_version
from django_pgnudge.registry.published import COLUMN_LISTS, find_publication, find_published

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_pgnudge.registry import Registry
    from django_pgnudge.rules import RuleSet

MANAGED_ROLES: Final = (
    "rds_replication",  # Amazon RDS and Aurora: a member may replicate
    # Members can grant REPLICATION to themselves, so rolreplication alone would give false alarms.
    "alloydbsuperuser",
    "azure_pg_admin",
    "cloudsqlsuperuser",
)
"""Roles of managed platforms; the checks assume that their members may replicate."""

_ROLE: Final = """
SELECT r.rolreplication OR r.rolsuper OR EXISTS (
         SELECT FROM pg_catalog.pg_roles g
          WHERE g.rolname = ANY (%s) AND pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER'))
  FROM pg_catalog.pg_roles r WHERE r.rolname = %s
"""

_MESSAGES: Final = """
SELECT pg_catalog.string_agg(
           p.oid::pg_catalog.regprocedure::pg_catalog.text, ', ' ORDER BY p.oid),
       pg_catalog.bool_or(pg_catalog.has_function_privilege('public', p.oid, 'EXECUTE')),
       (SELECT pg_catalog.array_agg(r.rolname::pg_catalog.text ORDER BY r.rolname)
          FROM pg_catalog.pg_roles r
         WHERE r.rolname IN (current_user, %s) AND NOT pg_catalog.has_function_privilege(
               r.oid, (SELECT m.oid FROM pg_catalog.pg_proc m
                        WHERE m.proname = 'pg_logical_emit_message'
                          AND m.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
                          AND m.proargtypes[2] = 'pg_catalog.text'::pg_catalog.regtype),
               'EXECUTE'))
  FROM pg_catalog.pg_proc p
 WHERE p.proname = 'pg_logical_emit_message'
   AND p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
"""

_SLOT: Final = "django_pgnudge_check"


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication in the database; tables are payloads."""

    tables: frozenset[str]
    operations: dict[str, bool]
    filtered: frozenset[str] = frozenset()
    without_identity: Mapping[str, str] = field(default_factory=dict)
    """For each table without a replica identity, the reason."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """For each table, the part of its replica identity that is not published."""


@dataclass(frozen=True, slots=True)
class Messages:
    """Who may write messages into the write-ahead log.

    Every role may if ``public``. The site's roles ``without`` may not. ``functions`` are the
    functions' names for GRANT and REVOKE.
    """

    functions: str
    public: bool
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """The state of the server and the rules.

    ``may_replicate`` is None if the role does not exist. ``allowed_plugins`` is None if the server
    does not have the setting.
    """

    alias: str
    registry: Registry
    rules: RuleSet
    wal_level: str
    role: str
    may_replicate: bool | None
    plugin: str
    allowed_plugins: tuple[str, ...] | None
    user: str
    messages: Messages
    plugin_missing: str = ""
    publication_name: str | None = None
    publication: Publication | None = field(default=None)

    def is_unpublished(self, payload: str) -> bool:
        """Whether the database has this table and the publication leaves it out."""
        if self.publication is None or not self.registry.exists(payload):
            return False
        family = (*self.registry.lineage(payload), *self.registry.descendants(payload))
        return self.publication.tables.isdisjoint(family)


def read_facts(connection: BaseDatabaseWrapper, registry: Registry, rules: RuleSet) -> Facts:
    """Read the facts from the server."""
    plugin, pub_name = conf.PLUGIN, conf.PUBLICATION
    with pinned(connection) as (cursor, _):
        cursor.execute(
            "SELECT pg_catalog.current_setting('wal_level'), current_user::pg_catalog.text"
        )
        wal_level, user = cursor.fetchone()
        role = conf.CONNECTION.get("user") or user
        cursor.execute(_ROLE, [list(MANAGED_ROLES), role])
        granted = cursor.fetchone()
        cursor.execute(
            "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'output_plugin_libraries'"
        )
        allowed = cursor.fetchone()
        cursor.execute(_MESSAGES, [role])
        functions, is_public, without = cursor.fetchone()
        messages = Messages(functions, is_public, tuple(without or ()))
        publication = None if pub_name is None else _publication(cursor, connection, pub_name)
    libraries = None
    if allowed is not None:
        libraries = tuple(name.strip(' "') for name in allowed[0].split(",") if name.strip())
    missing = ""
    is_allowed = libraries is None or plugin in libraries
    if plugin in ("wal2json", "test_decoding") and wal_level == "logical" and is_allowed:
        missing = _missing(connection, plugin)
    return Facts(
        connection.alias, registry, rules, wal_level, role, None if granted is None else granted[0],
        plugin, libraries, user, messages, missing, pub_name, publication,
    )  # fmt: skip


def _publication(cursor: Any, connection: BaseDatabaseWrapper, name: str) -> Publication | None:
    state = find_publication(connection, name)
    if state is None:
        return None
    version = server_version(connection)
    is_filtered = "rowfilter IS NOT NULL" if version >= COLUMN_LISTS else "false"
    cursor.execute(
        "SELECT schemaname::pg_catalog.text, tablename::pg_catalog.text,"  # noqa: S608 - one of two literals
        f" {is_filtered} FROM pg_catalog.pg_publication_tables WHERE pubname = %s",
        [name],
    )
    tables = {payload_for(schema, table): filtered for schema, table, filtered in cursor.fetchall()}
    without_identity, left_out = {}, {}
    # Only UPDATE and DELETE need an identity.
    if state.operations["UPDATE"] or state.operations["DELETE"]:
        for table in find_published(connection, name):
            if table.kind != "r":
                continue
            if why := table.lacks_identity():
                without_identity[table.payload] = why
            elif why := table.left_out(version, table.listed, generated=state.generated):
                left_out[table.payload] = why
    return Publication(
        frozenset(tables),
        state.operations,
        frozenset(payload for payload, filtered in tables.items() if filtered),
        without_identity,
        left_out,
    )


def _missing(connection: BaseDatabaseWrapper, plugin: str) -> str:
    """Why the server cannot load a plugin; empty if it can, or if this role cannot find out.

    The only way to find out is to create a slot. The slot is temporary and dropped at once, the
    statement has one second, and it runs only outside a transaction. The server loads the plugin
    before it waits for any transaction.
    """
    if connection.in_atomic_block:
        return ""
    try:
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = '1s'")
            cursor.execute(
                "SELECT pg_catalog.pg_drop_replication_slot(slot_name)"
                " FROM pg_catalog.pg_create_logical_replication_slot("
                "%s || pg_catalog.pg_backend_pid(), %s, true)",
                [_SLOT, plugin],
            )
    except Error as error:
        cause = error.__cause__
        state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        # undefined_file, undefined_object: the library is missing. Other errors do not show that.
        return str(error).splitlines()[0] if state in ("58P01", "42704") else ""
    return ""
