"""From ``schema.table`` to models: the hop between the feed and the rules.

`models` knows the app registry, `catalog` what PostgreSQL says of schemas, partitions and keys.
"""

from __future__ import annotations

from django_pgnudge.registry.models import Registry, split_db_table

__all__ = ["Registry", "split_db_table"]
