"""Makes a site's database, and says what there is to be read and written; see `stage`."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any, Final

import django
from django.db import connection, transaction
from django.test import Client

from benchmarks.served.settings import SITE
from benchmarks.speed.child import end_with_parent, say

SOME: Final = 100
"""Pages that are asked for which tables they read."""

READ: Final = """
SELECT DISTINCT relation::regclass::text FROM pg_locks JOIN pg_class ON pg_class.oid = relation
WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relkind IN ('r', 'p')
AND relnamespace = 'public'::regnamespace
"""


def tables(paths: list[str]) -> list[str]:
    """What a site that names the tables of its pages would have to name."""
    client = Client(headers={"host": "localhost"})
    with transaction.atomic(), connection.cursor() as cursor:
        for path in paths[:: max(1, len(paths) // SOME)]:
            if (response := client.get(path)).status_code != 200:
                raise RuntimeError(f"{path} answered {response.status_code}")
        cursor.execute(READ)
        return sorted(name for (name,) in cursor.fetchall())


def main(text: str) -> None:
    end_with_parent()
    django.setup()
    content: Any = import_module(f"benchmarks.served.{SITE['site']}.content")
    content.build(json.loads(text)["size"])
    paths = content.paths()
    say({"paths": paths, "items": content.items(), "tables": tables(paths)})


if __name__ == "__main__":
    main(sys.argv[1])
