"""The SQL of the documentation is given to a server."""

from __future__ import annotations

from typing import Any

from tests.doc_pages import blocks


def test_documented_sql_is_accepted_by_a_server(postgres_factory: Any) -> None:
    server = postgres_factory()
    server.create_database("app")
    server.execute("CREATE ROLE app LOGIN", "app")
    server.execute("CREATE SCHEMA legacy", "app")
    server.execute(
        "CREATE TABLE legacy.price_list (code text NOT NULL,"
        " CONSTRAINT price_list_code_key UNIQUE (code))",
        "app",
    )
    for table in ("shop_product", "shop_category"):
        server.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, price numeric)", "app")
    knows_list = server.execute(
        "SELECT 1 FROM pg_settings WHERE name = 'output_plugin_libraries'", "app"
    )
    messages_flush = server.execute(
        "SELECT to_regprocedure('pg_logical_emit_message(boolean, text, text, boolean)')::text",
        "app",
    ) != [(None,)]
    ran = 0
    for block in blocks():
        if block.language != "sql":
            continue
        for statement in filter(str.strip, block.code.split(";")):
            if "ON FUNCTION pg_logical_emit_message" in statement and (
                messages_flush != ("text, boolean)" in statement)
            ):
                continue
            if "output_plugin_libraries" not in statement or knows_list:
                server.execute(statement, "app")
                ran += 1
    assert ran > 10
    assert server.execute(
        "SELECT rolreplication FROM pg_roles WHERE rolname IN ('app', 'nudge')"
    ) == [
        (True,),
        (True,),
    ]
