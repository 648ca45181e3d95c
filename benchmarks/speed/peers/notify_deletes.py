"""A statement trigger with NOTIFY, and a listener: `… benchmarks.speed.peers.notify_deletes JSON`.

What a site can build in an hour, and the least there can be on the way from a commit to a delete.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import psycopg
from redis import Redis

from benchmarks.speed.child import end_with_parent
from benchmarks.speed.site.tables import STORED, TABLES

__all__ = ["CREATE", "DROP", "main"]

CHANNEL: Final = "changed"

CREATE: Final = f"""
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify('{CHANNEL}', TG_TABLE_NAME); RETURN NULL; END $$;
""" + "".join(
    f"CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}"
    " FOR EACH STATEMENT EXECUTE FUNCTION tell();"
    for table in TABLES
)

DROP: Final = "DROP FUNCTION tell() CASCADE"


def main(text: str) -> None:
    """Listen until the parent goes."""
    job: dict[str, Any] = json.loads(text)
    end_with_parent()
    redis = Redis(port=job["redis"], single_connection_client=True)
    keys = dict(zip(TABLES, STORED, strict=True))
    with psycopg.connect(job["dsn"], autocommit=True) as connection:
        connection.execute(f"LISTEN {CHANNEL}")
        for notification in connection.notifies():
            redis.unlink(keys[notification.payload])


if __name__ == "__main__":
    main(sys.argv[1])
